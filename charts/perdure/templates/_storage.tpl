{{/* The claim of a quick-start component's one volume. Takes its storage values. */}}
{{- define "perdure.dataVolumeClaim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  {{- with .className }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .size }}
{{- end }}

{{- define "perdure.objectStoreCredentials" -}}
AWS_ACCESS_KEY_ID: {{ .Values.objectStore.quickStart.accessKey | quote }}
AWS_SECRET_ACCESS_KEY: {{ .Values.objectStore.quickStart.secretKey | quote }}
{{- end }}

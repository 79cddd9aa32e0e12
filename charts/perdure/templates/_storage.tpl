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

{{/* Changes with the quick-start store's credentials, which pods read at their start. */}}
{{- define "perdure.objectStoreChecksum" -}}
{{- with .Values.objectStore.quickStart -}}{{- printf "%s/%s" .accessKey .secretKey | sha256sum -}}{{- end -}}
{{- end }}

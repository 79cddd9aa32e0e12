{{/* Parts of pod templates that every component has. */}}

{{/* The restricted Pod Security Standard. */}}
{{- define "perdure.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "perdure.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may run. Takes the component's values. */}}
{{- define "perdure.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The same for what everything depends on, which the chart's own PriorityClass is for. Takes {root, values}. */}}
{{- define "perdure.importantScheduling" -}}
{{- $own := .root.Values.priorityClass.create | ternary (include "perdure.fullname" .root) "" -}}
{{- $class := .values.priorityClassName | default $own -}}
{{- include "perdure.scheduling" (merge (dict "priorityClassName" $class) .values) -}}
{{- end }}

{{/* What a drain of nodes takes at a time of a component's pods. Takes {root, component, name, budget}. */}}
{{- define "perdure.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "perdure.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .budget.maxUnavailable }}
  # One that is not ready protects nobody, and would hold its node's drain up for as long as it is not.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "perdure.selector" . | nindent 6 }}
{{- end }}

{{- define "perdure.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "perdure.temporalAddress" -}}
{{- if .Values.temporal.quickStart.enabled -}}
{{ include "perdure.temporal" . }}.{{ .Release.Namespace }}.svc:7233
{{- else -}}
{{ .Values.temporal.address }}
{{- end -}}
{{- end }}

{{/* Environment of operator and workers. */}}
{{- define "perdure.commonEnv" -}}
- name: PERDURE_TEMPORAL_ADDRESS
  value: {{ include "perdure.temporalAddress" . | quote }}
- name: PERDURE_TEMPORAL_NAMESPACE
  value: {{ .Values.temporal.namespace | quote }}
{{- with .Values.temporal.tls }}
{{- if .enabled }}
- name: PERDURE_TEMPORAL_TLS
  value: "true"
{{- if .existingSecret }}
- name: PERDURE_TEMPORAL_TLS_DIR
  value: /var/run/perdure-temporal/tls
{{- end }}
{{- if .serverName }}
- name: PERDURE_TEMPORAL_TLS_SERVER_NAME
  value: {{ .serverName | quote }}
{{- end }}
{{- if .publicAuthority }}
- name: PERDURE_TEMPORAL_TLS_PUBLIC_AUTHORITY
  value: "true"
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.temporal.apiKey.existingSecret }}
- name: PERDURE_TEMPORAL_API_KEY_FILE
  value: /var/run/perdure-temporal/api-key/api-key
{{- end }}
- name: PERDURE_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: PERDURE_HTTP_PORT
  value: "8080"
- name: PERDURE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: PERDURE_WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
{{- end }}

{{/* What opens Temporal, as volumes of operator and workers: whole folders, since single files would never change. */}}
{{- define "perdure.temporalMounts" -}}
{{- if .Values.temporal.tls.existingSecret }}
- {name: temporal-tls, mountPath: /var/run/perdure-temporal/tls, readOnly: true}
{{- end }}
{{- if .Values.temporal.apiKey.existingSecret }}
- {name: temporal-api-key, mountPath: /var/run/perdure-temporal/api-key, readOnly: true}
{{- end }}
{{- end }}

{{- define "perdure.temporalVolumes" -}}
{{- with .Values.temporal.tls.existingSecret }}
- name: temporal-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.temporal.apiKey }}
{{- if .existingSecret }}
- name: temporal-api-key
  secret:
    secretName: {{ .existingSecret }}
    items:
      - {key: {{ .key | quote }}, path: api-key}
{{- end }}
{{- end }}
{{- end }}

{{/* A number as a text without decimals; nothing for null, which is not 0. */}}
{{- define "perdure.count" -}}
{{- if not (kindIs "invalid" .) }}{{ int64 . }}{{ end }}
{{- end }}

{{/* The limits of single namespaces: a=1,b=2. */}}
{{- define "perdure.namespaceLimits" -}}
{{- $entries := list }}
{{- range $namespace, $count := .Values.limits.namespaces }}
{{- $entries = append $entries (printf "%s=%d" $namespace (int64 $count)) }}
{{- end }}
{{- join "," $entries }}
{{- end }}

{{/* Plain settings of the object store, as a YAML map: the same for workers and training pods. */}}
{{- define "perdure.storeEnv" -}}
{{- $env := dict }}
{{- $endpoint := .Values.objectStore.endpoint }}
{{- if .Values.objectStore.quickStart.enabled }}
{{- $endpoint = printf "http://%s.%s.svc:8333" (include "perdure.objectStore" .) .Release.Namespace }}
{{- end }}
{{- with .Values.objectStore.region }}
{{- $_ := set $env "AWS_REGION" . }}
{{- end }}
{{- if $endpoint }}
{{- $_ := set $env "AWS_ENDPOINT_URL" $endpoint }}
{{- if hasPrefix "http://" $endpoint }}
{{- $_ := set $env "AWS_ALLOW_HTTP" "true" }}
{{- end }}
{{- end }}
{{- toYaml (mergeOverwrite $env .Values.objectStore.env) }}
{{- end }}

{{/* Probes of operator and workers, which serve /healthz and /readyz on the port `http`. */}}
{{- define "perdure.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

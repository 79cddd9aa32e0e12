{{/* Names and labels. */}}

{{- define "perdure.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* At most 40 characters, so that every name made from it is a DNS label. */}}
{{- define "perdure.fullname" -}}
{{- $name := include "perdure.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "perdure.operator" -}}{{ include "perdure.fullname" . }}-operator{{- end }}
{{- define "perdure.worker" -}}{{ include "perdure.fullname" . }}-worker{{- end }}
{{- define "perdure.gpuWorker" -}}{{ include "perdure.fullname" . }}-gpu-worker{{- end }}
{{- define "perdure.progress" -}}{{ include "perdure.fullname" . }}-progress{{- end }}
{{- define "perdure.scaler" -}}{{ include "perdure.fullname" . }}-scaler{{- end }}
{{- define "perdure.temporal" -}}{{ include "perdure.fullname" . }}-temporal{{- end }}
{{- define "perdure.objectStore" -}}{{ include "perdure.fullname" . }}-seaweedfs{{- end }}

{{- define "perdure.progressSecret" -}}
{{- .Values.progress.tls.existingSecret | default (printf "%s-tls" (include "perdure.progress" .)) -}}
{{- end }}

{{/* Of the scaler's certificate. Nothing where it serves no API of its own. */}}
{{- define "perdure.scalerSecret" -}}
{{- if and .Values.scaler.enabled (eq .Values.worker.autoscaling.provider "external-metrics") -}}
{{- .Values.scaler.tls.existingSecret | default (printf "%s-tls" (include "perdure.scaler" .)) -}}
{{- end -}}
{{- end }}

{{/* Labels that never change: a Deployment's selector is immutable. Takes {root, component}. */}}
{{- define "perdure.selector" -}}
app.kubernetes.io/name: {{ include "perdure.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The pods of every pool, as the selector of a query. */}}
{{- define "perdure.workerPods" -}}
{{- $name := include "perdure.name" . -}}
{{- printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s," $name .Release.Name -}}
{{- if .Values.gpuWorker.enabled -}}
app.kubernetes.io/component in (worker,gpu-worker)
{{- else -}}
app.kubernetes.io/component=worker
{{- end -}}
{{- end }}

{{- define "perdure.labels" -}}
{{ include "perdure.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: perdure
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
The version of the workers, where versions are told apart: what their code depends on, as a label's value.
Nothing where they are not.
*/}}
{{- define "perdure.build" -}}
{{- if .Values.worker.versioning.enabled -}}
{{- $image := include "perdure.image" (dict "root" . "image" .Values.image.cpu) -}}
{{- $release := .Chart.AppVersion | replace "+" "-" | trunc 40 -}}
{{- .Values.worker.versioning.build | default (printf "%s-%s" $release (sha256sum $image | trunc 8)) -}}
{{- end -}}
{{- end }}

{{/* An image of Perdure's own. Takes {root, image}. */}}
{{- define "perdure.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.registry .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{/* An image of somebody else's, which has its registry with it. */}}
{{- define "perdure.foreignImage" -}}
{{- printf "%s/%s:%s" .registry .repository .tag -}}
{{- end }}

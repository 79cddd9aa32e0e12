{{/*
What sizes a pool of workers by the demand of its task queue, and of others that it serves too: the largest counts.
Takes {root, name, component, queue, scaling (its values), target (tasks for each pod), more ([{queue, target}])}.
*/}}
{{- define "perdure.autoscaler" -}}
{{- $scaling := .scaling }}
{{- $root := .root }}
{{- $provider := .root.Values.worker.autoscaling }}
{{- $queues := prepend (.more | default list) (dict "queue" .queue "target" .target) }}
{{- if eq $provider.provider "keda" }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "perdure.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ .name }}
  minReplicaCount: {{ $scaling.minReplicas }}
  maxReplicaCount: {{ $scaling.maxReplicas }}
  pollingInterval: 10
  # The last pod is KEDA's own to remove; the others go by the behavior below.
  cooldownPeriod: {{ $scaling.scaleDownSeconds }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- include "perdure.scalingBehavior" $scaling | nindent 8 }}
  triggers:
    {{- range $queues }}
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $provider.prometheusAddress | quote }}
        # Each replica of the scaler tells the same. One that does not know tells nothing, and nothing is not 0.
        query: max(perdure_task_queue_demand{queue="{{ .queue }}",temporal_namespace={{ $root.Values.temporal.namespace | quote }},namespace={{ $root.Release.Namespace | quote }}})
        threshold: {{ .target | quote }}
        ignoreNullValues: "false"
    {{- end }}
{{- else }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "perdure.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    {{- range $queues }}
    - type: External
      external:
        metric:
          name: perdure_task_queue_demand
          selector:
            matchLabels:
              queue: {{ .queue }}
              temporal_namespace: {{ $root.Values.temporal.namespace | quote }}
        target:
          type: AverageValue
          averageValue: {{ .target | quote }}
    {{- end }}
  behavior: {{- include "perdure.scalingBehavior" $scaling | nindent 4 }}
{{- end }}
{{- end }}

{{/* Up at once and as far as need be; down when fewer have been enough for a while, one by one. Takes the pool's values. */}}
{{- define "perdure.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: {{ .maxReplicas }}, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}

{{/*
What the schema cannot say, because it is about several values at once. Included by operator.yaml, so that nothing is
rendered from values that contradict each other.
*/}}
{{- define "perdure.validation" -}}
{{- if not .Values.image.registry }}
{{- fail "\n\nimage.registry is empty. Build Perdure's images (Dockerfile.cpu, Dockerfile.gpu), push them to a registry of yours, and set image.registry to it." }}
{{- end }}
{{- if and .Values.temporal.address .Values.temporal.quickStart.enabled }}
{{- fail (printf "\n\nFound temporal.address (%s) and temporal.quickStart.enabled, expected one of them. Leave temporal.address empty to use the quick start." .Values.temporal.address) }}
{{- end }}
{{- if not (or .Values.temporal.address .Values.temporal.quickStart.enabled) }}
{{- fail "\n\nFound no Temporal. Set temporal.address to the host:port of an existing one, or temporal.quickStart.enabled=true to try Perdure with one in the cluster." }}
{{- end }}
{{- if .Values.temporal.tls.enabled }}
{{- if .Values.temporal.quickStart.enabled }}
{{- fail "\n\nFound temporal.tls.enabled and temporal.quickStart.enabled, expected one of them: the quick start speaks no TLS. Leave temporal.tls and temporal.apiKey out to try Perdure with it, or set temporal.address to a Temporal that does." }}
{{- end }}
{{- else }}
{{- $given := dict "temporal.tls.existingSecret" .Values.temporal.tls.existingSecret "temporal.tls.serverName" .Values.temporal.tls.serverName "temporal.apiKey.existingSecret" .Values.temporal.apiKey.existingSecret }}
{{- range $name, $value := $given }}
{{- if $value }}
{{- fail (printf "\n\nFound %s (%s) and no temporal.tls.enabled, expected both: credentials are never sent in the clear. Set temporal.tls.enabled=true, or leave %s out." $name $value $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.objectStore.endpoint .Values.objectStore.quickStart.enabled }}
{{- fail (printf "\n\nFound objectStore.endpoint (%s) and objectStore.quickStart.enabled, expected one of them. Leave objectStore.endpoint empty to use the quick start." .Values.objectStore.endpoint) }}
{{- end }}
{{- if and .Values.objectStore.quickStart.enabled (not .Values.objectStore.quickStart.secretKey) }}
{{- fail "\n\nobjectStore.quickStart.secretKey is empty. Choose a secret key for the quick-start object store, at least 8 characters long." }}
{{- end }}
{{- $scaling := .Values.worker.autoscaling }}
{{- if and $scaling.enabled .Values.worker.versioning.enabled }}
{{- fail "\n\nFound worker.autoscaling.enabled and worker.versioning.enabled, expected one of them: each version of the workers has a Deployment of its own, and one autoscaler cannot size them all. Switch one of the two off." }}
{{- end }}
{{- if and $scaling.enabled (not .Values.scaler.enabled) }}
{{- fail "\n\nFound worker.autoscaling.enabled without scaler.enabled, expected both: the scaler tells how much work there is. Set scaler.enabled=true." }}
{{- end }}
{{- if and $scaling.enabled (gt (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas)) }}
{{- fail (printf "\n\nFound worker.autoscaling.minReplicas (%d) above worker.autoscaling.maxReplicas (%d), expected the least first. Raise the maximum, or lower the minimum." (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas)) }}
{{- end }}
{{- if and $scaling.enabled (eq $scaling.provider "keda") (not $scaling.prometheusAddress) }}
{{- fail "\n\nworker.autoscaling.provider is keda and worker.autoscaling.prometheusAddress is empty, expected the URL of a Prometheus that scrapes the scaler, such as http://prometheus.monitoring.svc:9090. Set it." }}
{{- end }}
{{- $policies := .Values.networkPolicies }}
{{- if and $policies.enabled (not .Values.objectStore.quickStart.enabled) (not $policies.objectStore.to) }}
{{- fail "\n\nFound networkPolicies.enabled and no networkPolicies.objectStore.to, expected where the object store is: NetworkPolicies know no names of hosts, and to training pods everything else is closed. Name its pods, or its addresses, such as [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16]}}] for one on the Internet." }}
{{- end }}
{{- if and $policies.enabled .Values.metrics.podMonitor.enabled (not $policies.monitoring.from) }}
{{- fail "\n\nFound networkPolicies.enabled, metrics.podMonitor.enabled and no networkPolicies.monitoring.from, expected who reads metrics, or Prometheus is not let in. Name it, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]." }}
{{- end }}
{{- $gpu := .Values.gpuWorker }}
{{- if and $gpu.enabled $gpu.autoscaling.enabled }}
{{- if not .Values.scaler.enabled }}
{{- fail "\n\nFound gpuWorker.autoscaling.enabled without scaler.enabled, expected both: the scaler tells how much work there is. Set scaler.enabled=true." }}
{{- end }}
{{- if gt (int64 $gpu.autoscaling.minReplicas) (int64 $gpu.autoscaling.maxReplicas) }}
{{- fail (printf "\n\nFound gpuWorker.autoscaling.minReplicas (%d) above gpuWorker.autoscaling.maxReplicas (%d), expected the least first. Raise the maximum, or lower the minimum." (int64 $gpu.autoscaling.minReplicas) (int64 $gpu.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and (eq $scaling.provider "keda") (not $scaling.prometheusAddress) }}
{{- fail "\n\nworker.autoscaling.provider is keda and worker.autoscaling.prometheusAddress is empty, expected the URL of a Prometheus that scrapes the scaler, such as http://prometheus.monitoring.svc:9090. Set it." }}
{{- end }}
{{- end }}
{{- if and .Values.objectStore.quickStart.enabled (not .Values.objectStore.secretName) }}
{{- fail "\n\nFound objectStore.quickStart.enabled and no objectStore.secretName, expected a name for the Secret that its credentials are written to, such as perdure-object-store." }}
{{- end }}
{{- end }}

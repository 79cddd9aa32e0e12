{{/* Peers and rules of NetworkPolicies, as YAML lists. */}}

{{/* Pods of ours, wherever they are looked at from. Takes {root, component}. */}}
{{- define "perdure.peersOfOurs" -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ .root.Release.Namespace }}}
  podSelector:
    matchLabels: {{- include "perdure.selector" . | nindent 6 }}
{{- end }}

{{/* The pods of all TrainingJobs. */}}
{{- define "perdure.peersThatTrain" -}}
{{- with .Values.watchNamespaces -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- else -}}
- namespaceSelector: {}
{{- end }}
  podSelector:
    matchExpressions:
      - {key: perdure.dev/trainingjob-uid, operator: Exists}
{{- end }}

{{/* One rule of egress. Takes {to, a list of peers, none: whichever address; ports; protocols}. */}}
{{- define "perdure.egressRule" -}}
{{- $protocols := .protocols | default (list "TCP") }}
- ports:
  {{- range $port := .ports }}
  {{- range $protocol := $protocols }}
    - {port: {{ int64 $port }}, protocol: {{ $protocol }}}
  {{- end }}
  {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "perdure.egressToDNS" -}}
{{- include "perdure.egressRule" (merge (dict "protocols" (list "UDP" "TCP")) .Values.networkPolicies.dns) }}
{{- end }}

{{- define "perdure.egressToAPIServer" -}}
{{- include "perdure.egressRule" .Values.networkPolicies.apiServer }}
{{- end }}

{{- define "perdure.egressToTemporal" -}}
{{- $given := .Values.networkPolicies.temporal }}
{{- if .Values.temporal.quickStart.enabled }}
{{- $peers := include "perdure.peersOfOurs" (dict "root" . "component" "temporal") | fromYamlArray }}
{{- include "perdure.egressRule" (dict "to" $peers "ports" (list 7233)) }}
{{- else }}
{{- $ports := $given.ports | default (list (regexFind "[0-9]+$" .Values.temporal.address)) }}
{{- include "perdure.egressRule" (dict "to" $given.to "ports" $ports) }}
{{- end }}
{{- end }}

{{- define "perdure.egressToStore" -}}
{{- $given := .Values.networkPolicies.objectStore }}
{{- if .Values.objectStore.quickStart.enabled }}
{{- $peers := include "perdure.peersOfOurs" (dict "root" . "component" "object-store") | fromYamlArray }}
{{- include "perdure.egressRule" (dict "to" $peers "ports" (list 8333)) }}
{{- else }}
{{- $endpoint := .Values.objectStore.endpoint }}
{{- $usual := hasPrefix "http://" $endpoint | ternary "80" "443" }}
{{- $named := regexFind ":[0-9]+/?$" $endpoint | trimPrefix ":" | trimSuffix "/" }}
{{- include "perdure.egressRule" (dict "to" $given.to "ports" ($given.ports | default (list ($named | default $usual)))) }}
{{- end }}
{{- end }}

{{/* What training pods reach beside each other: the store, the progress receiver, DNS. */}}
{{- define "perdure.egressOfTraining" -}}
{{- $workers := include "perdure.peersOfOurs" (dict "root" . "component" "worker") | fromYamlArray }}
{{- include "perdure.egressToDNS" . }}
{{- include "perdure.egressToStore" . }}
{{- include "perdure.egressRule" (dict "to" $workers "ports" (list 8443)) }}
{{- with .Values.networkPolicies.extraEgress.training }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Ingress of those who may read metrics. */}}
{{- define "perdure.ingressOfMonitoring" -}}
{{- with .Values.networkPolicies.monitoring.from }}
- from: {{- toYaml . | nindent 4 }}
  ports:
    - {port: 8080, protocol: TCP}
{{- end }}
{{- end }}

{{/*
The NetworkPolicy of a component. Takes {root, component, name, ingress, egress}, the last two as YAML lists; without any
nothing passes. Replies, and what a node asks of its own pods (probes), always do.
*/}}
{{- define "perdure.networkPolicy" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "perdure.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "perdure.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: {{- .ingress | fromYamlArray | toYaml | nindent 4 }}
  egress: {{- .egress | fromYamlArray | toYaml | nindent 4 }}
{{- end }}

{{/*
Gives a component its ClusterRole: in the whole cluster, or in each watched namespace and nowhere else.
Takes {root, component, name}.
*/}}
{{- define "perdure.bindings" -}}
{{- $binding := . }}
{{- range .root.Values.watchNamespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ empty . | ternary "ClusterRoleBinding" "RoleBinding" }}
metadata:
  name: {{ $binding.name }}
  {{- with . }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "perdure.labels" $binding | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $binding.name }}
subjects:
  - {kind: ServiceAccount, name: {{ $binding.name }}, namespace: {{ $binding.root.Release.Namespace }}}
{{- end }}
{{- end }}

{{- define "thruway.operator.name" -}}
{{- default (printf "%s-operator" .Release.Name) .Values.serviceAccount.name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "thruway.labels" -}}
app.kubernetes.io/name: thruway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What the operator may do in each namespace that it watches. It writes status and events alone. */}}
{{- define "thruway.operator.rules" -}}
- apiGroups: [thruway.dev]
  resources: [passthroughroutes]
  verbs: [get, list, watch]
- apiGroups: [thruway.dev]
  resources: [passthroughroutes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Names */}}
{{- define "thruway.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "thruway.operator.name" -}}
{{- printf "%s-operator" (include "thruway.name" .) -}}
{{- end }}

{{- define "thruway.operator.account" -}}
{{- default (include "thruway.operator.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "thruway.injector.name" -}}
{{- printf "%s-injector" (include "thruway.name" .) -}}
{{- end }}

{{- define "thruway.gateway.name" -}}
{{- printf "%s-gateway" (include "thruway.name" .) -}}
{{- end }}

{{/* Where the operator's certificate is, and the CA that proxies check it with. */}}
{{- define "thruway.tls.secret" -}}
{{- if eq .Values.certificates.mode "Secret" -}}
{{- .Values.certificates.secretName -}}
{{- else -}}
{{- printf "%s-operator-tls" (include "thruway.name" .) -}}
{{- end -}}
{{- end }}

{{- define "thruway.ca.configMap" -}}
{{- printf "%s-ca" (include "thruway.name" .) -}}
{{- end }}

{{- define "thruway.gateway.url" -}}
{{- if .Values.gateway.url -}}
{{- .Values.gateway.url | trimSuffix "/" -}}
{{- else -}}
{{- $scheme := ternary "https" "http" (ne (include "thruway.gateway.tlsSecret" .) "") -}}
{{- printf "%s://%s.%s.svc:%v" $scheme (include "thruway.gateway.name" .) .Release.Namespace .Values.gateway.service.port -}}
{{- end -}}
{{- end }}

{{- define "thruway.gateway.tlsSecret" -}}
{{- if .Values.gateway.tls.certManager -}}
{{- default (printf "%s-tls" (include "thruway.gateway.name" .)) .Values.gateway.tls.secretName -}}
{{- else -}}
{{- .Values.gateway.tls.secretName -}}
{{- end -}}
{{- end }}

{{/* Metadata */}}
{{- define "thruway.labels" -}}
app.kubernetes.io/name: thruway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* dict "root" $ "component" "gateway" */}}
{{- define "thruway.selector" -}}
app.kubernetes.io/name: thruway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* dict "root" $ "name" … "component"? "namespace"? "labels"? "annotations"? */}}
{{- define "thruway.metadata" -}}
{{- $labels := include "thruway.labels" .root | fromYaml -}}
{{- with .component }}{{ $_ := set $labels "app.kubernetes.io/component" . }}{{ end -}}
{{- $labels = mustMergeOverwrite $labels (default dict .labels) -}}
{{- $annotations := mustMergeOverwrite dict (deepCopy .root.Values.commonAnnotations) (default dict .annotations) -}}
name: {{ .name }}
{{- if not .clusterWide }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels: {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* dict "image" .Values.image "tag" default */}}
{{- define "thruway.image" -}}
{{- $name := .image.repository -}}
{{- with .image.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .tag .image.tag) -}}
{{- end -}}
{{- end }}

{{- define "thruway.ownImage" -}}
{{- include "thruway.image" (dict "image" .Values.image "tag" .Chart.AppVersion) -}}
{{- end }}

{{/* What all pods have: dict "root" $ "component" … "values" .Values.gateway */}}
{{- define "thruway.pod.scheduling" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "thruway.selector" . | fromYaml)) }}
{{- range .values.topologySpreadConstraints }}
- {{- toYaml (mustMerge . (deepCopy $own)) | nindent 2 }}
{{- end }}
{{- else }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "thruway.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "thruway.podIdentity" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.namespace
{{- end }}

{{/* Environment variables from the values, with the defaults that the API server adds inside a unit of server-side
apply: without them, a second manager conflicts. */}}
{{- define "thruway.extraEnv" -}}
{{- range . }}
{{- $variable := deepCopy . }}
{{- with dig "valueFrom" "fieldRef" nil $variable }}{{ $_ := mustMerge . (dict "apiVersion" "v1") }}{{ end }}
{{- with dig "valueFrom" "resourceFieldRef" nil $variable }}{{ $_ := mustMerge . (dict "divisor" "0") }}{{ end }}
{{ toYaml (list $variable) }}
{{- end }}
{{- end }}

{{/* Requests and limits from the values, as the API server stores them: a second manager that writes the
same quantity differently conflicts. */}}
{{- define "thruway.resources" -}}
{{- $resources := deepCopy . }}
{{- range $bounds := list "requests" "limits" }}
{{- range $kind, $quantity := get $resources $bounds | default dict }}
{{- $_ := set (get $resources $bounds) $kind (include "thruway.quantity" ($quantity | toJson | trimAll "\"")) }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* A NetworkPolicy's rules from the values, with such defaults. */}}
{{- define "thruway.networkPolicy.rules" -}}
{{- range . }}
{{- $rule := deepCopy . }}
{{- range $rule.ports }}{{ $_ := mustMerge . (dict "protocol" "TCP") }}{{ end }}
{{ toYaml (list $rule) }}
{{- end }}
{{- end }}

{{/* The token with which a pod proves itself to the operator, and nowhere else. */}}
{{- define "thruway.tokenVolume" -}}
- name: token
  projected:
    sources:
    - serviceAccountToken:
        audience: thruway-xds
        expirationSeconds: 3600
        path: token
{{- end }}

{{/* What the operator may do in each namespace that it watches. It writes status and events, and its CA. */}}
{{- define "thruway.operator.rules" -}}
- apiGroups: [thruway.dev]
  resources: [passthroughroutes]
  verbs: [list, watch]
- apiGroups: [thruway.dev]
  resources: [passthroughroutes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.injector.enabled }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [thruway-ca]
  verbs: [patch]
{{- end }}
{{- end }}

{{/* dict "root" $ "values" .Values.gateway: OpenShift assigns user and group IDs, and rejects others. */}}
{{- define "thruway.podSecurityContext" -}}
{{- $context := .values.podSecurityContext -}}
{{- if .root.Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if eq (get $context $key | toString) "65532" }}{{ $context = omit $context $key }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* A rule of a NetworkPolicy's egress. */}}
{{- define "thruway.dnsEgress" -}}
- ports:
  - port: 53
    protocol: UDP
  - port: 53
    protocol: TCP
{{- end -}}

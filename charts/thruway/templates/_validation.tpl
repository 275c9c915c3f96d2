{{/* Values that contradict each other: one sentence says what to change. */}}
{{- define "thruway.validate" -}}
{{- $v := .Values -}}
{{- if and (eq $v.certificates.mode "CertManager") (not $v.certificates.issuerRef.name) -}}
{{- fail "certificates.mode is CertManager, but certificates.issuerRef.name is not set: name an issuer of cert-manager" -}}
{{- end -}}
{{- if and (eq $v.certificates.mode "Secret") (not $v.certificates.secretName) -}}
{{- fail "certificates.mode is Secret, but certificates.secretName is not set: name the Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and (ne $v.certificates.mode "Secret") $v.certificates.secretName -}}
{{- fail (printf "certificates.secretName is set, but certificates.mode is %s: set certificates.mode to Secret, or leave the name out" $v.certificates.mode) -}}
{{- end -}}
{{- if and $v.egressProxy.secretName (or $v.egressProxy.https $v.egressProxy.http $v.egressProxy.noProxy) -}}
{{- fail "egressProxy.secretName is set beside egressProxy.https, http or noProxy: use one or the other" -}}
{{- end -}}
{{- if and $v.injector.enabled (eq $v.injector.failurePolicy "Fail") (eq (toString $v.operator.replicas) "0") -}}
{{- fail "operator.replicas is 0 and injector.failurePolicy is Fail, so that no pod that asks for a sidecar could be made: raise the one, or set the other to Ignore" -}}
{{- end -}}
{{- range $name, $image := dict "image" $v.image "envoyImage" $v.envoyImage -}}
{{- if regexMatch "[@]|:[^/]*$" $image.repository -}}
{{- fail (printf "%s.repository holds a tag or digest: put it into %s.tag or %s.digest" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- if or (contains "@" $v.egressProxy.https) (contains "@" $v.egressProxy.http) -}}
{{- fail "egressProxy.https or http holds a login, which everybody could read: put HTTPS_PROXY, HTTP_PROXY and NO_PROXY into a Secret and name it in egressProxy.secretName" -}}
{{- end -}}
{{- if eq (int $v.injector.port) 4001 -}}
{{- fail "injector.port is 4001, where sidecars serve health: choose another" -}}
{{- end -}}
{{- range $part := list "envoy" "extproc" -}}
{{- $amounts := dict -}}
{{- range $bounds, $quantities := (index $v.injector $part).resources -}}
{{- range $kind, $quantity := $quantities -}}
{{- $place := printf "injector.%s.resources.%s.%s" $part $bounds $kind -}}
{{- $text := $quantity | toJson | trimAll "\"" -}}
{{- $forms := dict "cpu" "m?" "memory" "([kMGTPE]|[KMGTPE]i)?" -}}
{{- if not (and (has $bounds (list "requests" "limits")) (hasKey $forms $kind)) -}}
{{- fail (printf "%s is nothing that sidecars can have: give cpu and memory in requests and limits" $place) -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $quantity) (regexMatch (printf "^[0-9]{1,15}([.][0-9]{1,9})?%s$" (index $forms $kind)) $text)) -}}
{{- fail (printf "%s is not a quantity of %s: use one such as %s" $place $kind (ternary "200m or 1.5" "128Mi or 1Gi" (eq $kind "cpu"))) -}}
{{- end -}}
{{- if not (kindIs "invalid" $quantity) -}}
{{- $_ := set $amounts (printf "%s of %s" $bounds $kind) (include "thruway.amount" $text | float64) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $kind := list "cpu" "memory" -}}
{{- $request := get $amounts (printf "requests of %s" $kind) -}}
{{- $limit := get $amounts (printf "limits of %s" $kind) -}}
{{- if and $request $limit -}}
{{- if gt $request $limit -}}
{{- fail (printf "injector.%s.resources requests more %s than its limit lets it have, so that no pod with a sidecar could be made: lower the one or raise the other" $part $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $g := $v.gateway -}}
{{- if $g.enabled -}}
{{- $label := "[A-Za-z0-9./_-]+" -}}
{{- $one := printf "(!?%s|%s *(=|==|!=) *%s|%s +(in|notin) +[(] *%s *(, *%s *)*[)])" $label $label $label $label $label $label -}}
{{- if not (regexMatch (printf "^ *%s *(, *%s *)*$" $one $one) $g.namespaceSelector) -}}
{{- fail "gateway.namespaceSelector is not a label selector: use one such as thruway.dev/gateway=allowed, in the form of kubectl get -l" -}}
{{- end -}}
{{- if and $v.watchNamespaces (not $g.namespaces) -}}
{{- fail "watchNamespaces is set, so the operator may not read the labels of namespaces: name those whose routes the gateway takes in gateway.namespaces" -}}
{{- end -}}
{{- if $v.watchNamespaces -}}
{{- range $g.namespaces -}}
{{- if not (has . $v.watchNamespaces) -}}
{{- fail (printf "gateway.namespaces holds %s, which watchNamespaces does not: add it there, or take it away here" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if gt (int $g.drain.atLeastSeconds) (int $g.drain.atMostSeconds) -}}
{{- fail (printf "gateway.drain.atLeastSeconds (%v) is more than gateway.drain.atMostSeconds (%v): lower the one or raise the other" $g.drain.atLeastSeconds $g.drain.atMostSeconds) -}}
{{- end -}}
{{- if and $g.autoscaling.enabled (gt (int $g.autoscaling.minReplicas) (int $g.autoscaling.maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.minReplicas (%v) is more than maxReplicas (%v): lower the one or raise the other" $g.autoscaling.minReplicas $g.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if and $g.tls.certManager (not $g.tls.issuerRef.name) -}}
{{- fail "gateway.tls.certManager is set, but gateway.tls.issuerRef.name is not: name an issuer of cert-manager" -}}
{{- end -}}
{{- else -}}
{{- if or $g.autoscaling.enabled $g.tls.secretName $g.tls.certManager -}}
{{- fail "gateway.autoscaling or gateway.tls is set, but there is no gateway: set gateway.enabled, or leave them out" -}}
{{- end -}}
{{- if $v.podMonitor.enabled -}}
{{- fail "podMonitor.enabled is set, but there is no gateway to read metrics from: set gateway.enabled, or leave it out" -}}
{{- end -}}
{{- end -}}
{{- end }}

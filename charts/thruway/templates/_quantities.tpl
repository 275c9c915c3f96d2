{{/* A quantity of Kubernetes as a number. */}}
{{- define "thruway.amount" -}}
{{- $factors := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- $suffix := regexFind "[a-zA-Z]*$" . -}}
{{- mulf (trimSuffix $suffix . | float64) (default 1.0 (get $factors $suffix)) -}}
{{- end }}

{{/* A quantity as the API server writes it: 1000m is 1, 1024Mi is 1Gi. Forms that are rare stay as they are. */}}
{{- define "thruway.quantity" -}}
{{- $suffix := regexFind "[a-zA-Z]*$" . -}}
{{- $binary := hasSuffix "i" $suffix -}}
{{- $base := ternary 1024 1000 $binary -}}
{{- $amount := mulf (ternary 1 1000 $binary) (include "thruway.amount" .) -}}
{{- $whole := $amount | int64 -}}
{{- if or (not (regexMatch "^[0-9.]+([mkMGT]|[KMGT]i)?$" .)) (ne (float64 $whole) (float64 $amount)) (eq $whole 0) -}}
{{- . -}}
{{- else -}}
{{- $units := ternary (list "" "Ki" "Mi" "Gi" "Ti") (list "m" "" "k" "M" "G" "T") $binary -}}
{{- $unit := first $units -}}
{{- $divisible := true -}}
{{- range rest $units -}}
{{- $divisible = and $divisible (eq (mod $whole $base) 0) -}}
{{- if $divisible -}}
{{- $whole = div $whole $base -}}
{{- $unit = . -}}
{{- end -}}
{{- end -}}
{{- printf "%d%s" $whole $unit -}}
{{- end -}}
{{- end }}

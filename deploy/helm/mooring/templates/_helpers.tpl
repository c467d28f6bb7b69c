{{/* Labels of every object here. */}}
{{- define "mooring.labels" -}}
app.kubernetes.io/part-of: mooring
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Labels by which pods are selected; the operator finds the agents by the same. Call with "mooring-enforcer" or "mooring-operator". */}}
{{- define "mooring.selector" -}}
app.kubernetes.io/name: {{ . }}
{{- end }}

{{/* An image. Call with (list $ "enforcer" .Values.images.enforcerDigest). */}}
{{- define "mooring.image" -}}
{{- $root := index . 0 -}}
{{- $digest := index . 2 -}}
{{- $image := printf "%s/%s" (trimSuffix "/" $root.Values.images.registry) (index . 1) -}}
{{- if $digest }}{{ $image }}@{{ $digest }}{{ else }}{{ $image }}:{{ $root.Values.images.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* The binaries, their accounts' rights and admission know their namespaces by name. */}}
{{- define "mooring.checkNamespace" -}}
{{- if ne .Release.Namespace "mooring-system" -}}
{{- fail (printf "Mooring runs in the namespace mooring-system, not %s: add --namespace mooring-system --create-namespace" .Release.Namespace) -}}
{{- end -}}
{{- end }}

{{- define "mooring.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Names. The full name is the release's, with the chart's where the release's lacks it. */}}
{{- define "gpuvitals.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "gpuvitals.fullname" -}}
{{- $name := include "gpuvitals.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "gpuvitals.agent" -}}
{{- printf "%s-agent" (include "gpuvitals.fullname" .) -}}
{{- end -}}

{{- define "gpuvitals.selector" -}}
app.kubernetes.io/name: {{ include "gpuvitals.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "gpuvitals.labels" -}}
{{ include "gpuvitals.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "gpuvitals.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gpuvitals.agent" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: is empty; name the account, or let the chart create one" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The user that the API server sees; the admission policies are about it and nobody else. */}}
{{- define "gpuvitals.user" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "gpuvitals.serviceAccount" .) -}}
{{- end -}}

{{- define "gpuvitals.image" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository: is empty, and no image of gpuvitals is published yet; build one (docs/guides/install.md, step 1) and name it: --set image.repository=registry.example/gpuvitals/agent" -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Paths. Those that the kubelet or the container runtime is told are the same inside and outside. */}}
{{- define "gpuvitals.stateDir" -}}
{{- $directory := default (printf "%s/plugins/%s" .Values.kubeletRoot .Values.driverName) .Values.stateDir -}}
{{- if gt (len $directory) 88 -}}
{{- fail (printf "%s: the state folder %s is %d characters long, and a socket below it can have 107; at most 88: name a shorter one in stateDir" (ternary "stateDir" "driverName" (ne .Values.stateDir "")) $directory (len $directory)) -}}
{{- end -}}
{{- $directory -}}
{{- end -}}

{{- define "gpuvitals.registryDir" -}}
{{- printf "%s/plugins_registry" .Values.kubeletRoot -}}
{{- end -}}

{{- define "gpuvitals.hasPodMonitors" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor" -}}true{{- end -}}
{{- end -}}

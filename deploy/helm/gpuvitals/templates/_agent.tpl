{{/* The flags of `gpuvitals node`; extraArgs come last, where argparse lets them win. */}}
{{- define "gpuvitals.args" -}}
- --state-dir={{ include "gpuvitals.stateDir" . }}
- --registry-dir={{ include "gpuvitals.registryDir" . }}
- --cdi-dir={{ .Values.cdiDir }}
- --driver-root=/driver-root
- --driver-root-on-host={{ .Values.driver.root }}
{{- range .Values.driver.libraryDirs }}
- --driver-libraries={{ . }}
{{- end }}
- --dev-root={{ include "gpuvitals.devRootInside" . }}
- --dev-root-on-host={{ .Values.driver.devRoot }}
- --sysfs-root={{ .Values.sysfsRoot }}
- --kernel-log={{ .Values.kernelLog }}
{{- if .Values.reportsDir }}
- --reports-dir={{ .Values.reportsDir }}
{{- end }}
- --config=/etc/gpuvitals/node.yaml
- --probe-address={{ ternary "127.0.0.1" "[::]" .Values.hostNetwork }}:{{ .Values.probePort }}
- --log-level={{ .Values.logLevel }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Where the container sees the folder of dev/nvidia*. */}}
{{- define "gpuvitals.devRootInside" -}}
{{- ternary "/driver-root" .Values.driver.devRoot (and (ne .Values.driver.devRoot "/") (eq .Values.driver.devRoot .Values.driver.root)) -}}
{{- end -}}

{{/* One HTTP probe, of (root, path). On the host's network the agent listens on loopback only. */}}
{{- define "gpuvitals.probe" -}}
{{- $root := index . 0 -}}
httpGet:
  path: {{ index . 1 }}
  port: {{ $root.Values.probePort }}
  {{- if $root.Values.hostNetwork }}
  host: 127.0.0.1
  {{- end }}
timeoutSeconds: 3
{{- end -}}

{{- define "gpuvitals.nodeSelector" -}}
{{- $kept := dict -}}
{{- range $label, $value := .Values.nodeSelector -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $label $value -}}
{{- end -}}
{{- end -}}
{{- if $kept -}}
{{- toYaml $kept -}}
{{- end -}}
{{- end -}}

{{/*
Labels of an NVIDIA GPU: Node Feature Discovery's for a PCI device, in the forms that its configurations give it, and the
GPU Operator's. With "auto" also nodes that neither of them has labelled: what the first two keys are is on each node
that Node Feature Discovery has seen.
*/}}
{{- define "gpuvitals.affinity" -}}
{{- $only := toString .Values.onlyNvidiaNodes -}}
{{- if and (eq $only "true") .Values.affinity.nodeAffinity -}}
{{- fail "onlyNvidiaNodes: is a node affinity of its own; with affinity.nodeAffinity set, write the label there and leave this at auto" -}}
{{- end -}}
{{- if or (eq $only "true") (and (eq $only "auto") (not .Values.affinity.nodeAffinity)) -}}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        {{- range list "feature.node.kubernetes.io/pci-10de.present" "feature.node.kubernetes.io/pci-0300_10de.present" "feature.node.kubernetes.io/pci-0302_10de.present" "nvidia.com/gpu.present" }}
        - matchExpressions:
            - key: {{ . }}
              operator: In
              values: ["true"]
        {{- end }}
        {{- if eq $only "auto" }}
        - matchExpressions:
            {{- range list "feature.node.kubernetes.io/kernel-version.major" "feature.node.kubernetes.io/system-os_release.ID" "nvidia.com/gpu.present" }}
            - key: {{ . }}
              operator: DoesNotExist
            {{- end }}
        {{- end }}
  {{- with omit .Values.affinity "nodeAffinity" }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- else if .Values.affinity -}}
affinity:
  {{- toYaml .Values.affinity | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* The kubelet is told paths below the state and registry folders, the runtime one of the CDI folder: same name inside. */}}
{{- define "gpuvitals.volumeMounts" -}}
- name: config
  mountPath: /etc/gpuvitals
  readOnly: true
- name: state
  mountPath: {{ include "gpuvitals.stateDir" . }}
- name: registry
  mountPath: {{ include "gpuvitals.registryDir" . }}
- name: cdi
  mountPath: {{ .Values.cdiDir }}
# A driver that is mounted there later, by a driver container, shows up inside as well.
- name: driver-root
  mountPath: /driver-root
  mountPropagation: HostToContainer
  readOnly: true
{{- if eq .Values.driver.devRoot "/" }}
- name: dev
  mountPath: /dev
{{- else if ne .Values.driver.devRoot .Values.driver.root }}
- name: dev
  mountPath: {{ .Values.driver.devRoot }}
  mountPropagation: HostToContainer
  readOnly: true
{{- end }}
{{- if ne .Values.sysfsRoot "/sys" }}
- name: sysfs
  mountPath: {{ .Values.sysfsRoot }}
  readOnly: true
{{- end }}
{{- if not (hasPrefix "/dev/" .Values.kernelLog) }}
- name: kernel-log
  mountPath: {{ .Values.kernelLog }}
  readOnly: true
{{- end }}
{{- if .Values.reportsDir }}
- name: reports
  mountPath: {{ .Values.reportsDir }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gpuvitals.volumes" -}}
- name: config
  configMap:
    name: {{ include "gpuvitals.agent" . }}
- name: state
  hostPath:
    path: {{ include "gpuvitals.stateDir" . }}
    type: DirectoryOrCreate
# Not created: without it kubeletRoot is wrong, and the pod's event says so.
- name: registry
  hostPath:
    path: {{ include "gpuvitals.registryDir" . }}
    type: Directory
- name: cdi
  hostPath:
    path: {{ .Values.cdiDir }}
    type: DirectoryOrCreate
- name: driver-root
  hostPath:
    path: {{ .Values.driver.root }}
    type: DirectoryOrCreate
{{- if eq .Values.driver.devRoot "/" }}
- name: dev
  hostPath:
    path: /dev
    type: Directory
{{- else if ne .Values.driver.devRoot .Values.driver.root }}
- name: dev
  hostPath:
    path: {{ .Values.driver.devRoot }}
    type: Directory
{{- end }}
{{- if ne .Values.sysfsRoot "/sys" }}
- name: sysfs
  hostPath:
    path: {{ .Values.sysfsRoot }}
    type: Directory
{{- end }}
{{- if not (hasPrefix "/dev/" .Values.kernelLog) }}
- name: kernel-log
  hostPath:
    path: {{ .Values.kernelLog }}
{{- end }}
{{- if .Values.reportsDir }}
- name: reports
  hostPath:
    path: {{ .Values.reportsDir }}
    type: DirectoryOrCreate
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

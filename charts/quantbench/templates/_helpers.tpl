{{/* The chart's name, cut so that with the longest suffix it is still a name of a Service. */}}
{{- define "quantbench.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of every object's name: the release's name, with the chart's unless it is in there. */}}
{{- define "quantbench.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "quantbench.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full | trunc 46 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the operator's Deployment, roles and Lease. */}}
{{- define "quantbench.operatorName" -}}
{{- printf "%s-operator" (include "quantbench.fullname" .) -}}
{{- end -}}

{{- define "quantbench.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "quantbench.operatorName" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "quantbench.leaseName" -}}
{{- default (include "quantbench.operatorName" .) .Values.leaderElection.leaseName -}}
{{- end -}}

{{/* The operator's image, also given to the load pods. */}}
{{- define "quantbench.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Labels that select the operator's pods. The pods of benchmarks share the first of them; only the operator's have
the other two.
*/}}
{{- define "quantbench.selectorLabels" -}}
app.kubernetes.io/name: quantbench
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "quantbench.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "quantbench.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels that the operator sets on the pods of benchmarks, and that no benchmark can replace. */}}
{{- define "quantbench.benchmarkPodLabels" -}}
app.kubernetes.io/name: quantbench
app.kubernetes.io/managed-by: quantbench
{{- end -}}

{{/* The watched namespaces as a JSON list; empty means all. */}}
{{- define "quantbench.watchedNamespaces" -}}
{{- if .Values.watch.cluster -}}
{{- if .Values.watch.namespaces -}}
{{- fail "watch.cluster and watch.namespaces exclude each other: leave watch.namespaces empty to watch every namespace" -}}
{{- end -}}
[]
{{- else -}}
{{- .Values.watch.namespaces | default (list .Release.Namespace) | toJson -}}
{{- end -}}
{{- end -}}

{{/* The namespaces whose benchmark pods get network policies, as a JSON list. */}}
{{- define "quantbench.policyNamespaces" -}}
{{- if .Values.networkPolicy.namespaces -}}
{{- .Values.networkPolicy.namespaces | toJson -}}
{{- else -}}
{{- include "quantbench.watchedNamespaces" . -}}
{{- end -}}
{{- end -}}

{{/*
What the operator may do where benchmarks are. Nothing on secrets (pods mount them by name), no pods/exec, no nodes.
Creating by server-side apply takes both verbs, create and patch.
*/}}
{{- define "quantbench.rules" -}}
# The user's; the operator deletes one only when its time to live is over.
- apiGroups: [quantbench.dev]
  resources: [quantbenchmarks]
  verbs: [get, list, watch, delete]
- apiGroups: [quantbench.dev]
  resources: [quantbenchmarks/status, quantbenchmarkruns/status]
  verbs: [get, patch]
# Runs go with their benchmark, by the garbage collector.
- apiGroups: [quantbench.dev]
  resources: [quantbenchmarkruns]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

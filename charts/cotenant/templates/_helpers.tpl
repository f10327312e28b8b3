{{- /* `true` for a release with Capsule's names, values and flags. */}}
{{- define "cotenant.isCapsule" -}}
{{- if eq .Values.mode "namespaces" }}true{{ end -}}
{{- end -}}

{{- /* Nothing but the definitions and what belongs to them was asked for. */}}
{{- define "cotenant.isExclusive" -}}
{{- if and (include "cotenant.isCapsule" .) (or .Values.crds.exclusive .Values.webhooks.exclusive) }}true{{ end -}}
{{- end -}}

{{- /* Halves of the operator, a JSON list. */}}
{{- define "cotenant.components" -}}
{{- ternary (list "namespace-tenants") .Values.components (eq .Values.mode "namespaces") | toJson -}}
{{- end -}}

{{- define "cotenant.name" -}}
{{- default (ternary "capsule" .Chart.Name (eq .Values.mode "namespaces")) .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "cotenant.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "cotenant.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "cotenant.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Name of the Deployment or DaemonSet, and the beginning of the name of the Service for metrics. */}}
{{- define "cotenant.workload" -}}
{{- include "cotenant.fullname" . }}{{ if include "cotenant.isCapsule" . }}-controller-manager{{ end -}}
{{- end -}}

{{- /* Name of a ClusterRole: (list $ "operator"). */}}
{{- define "cotenant.clusterRole" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
{{- if include "cotenant.isCapsule" $root -}}
capsule:{{ include "cotenant.fullname" $root }}:{{ ternary "controller" $role (eq $role "namespace-tenants") }}
{{- else -}}
{{ include "cotenant.fullname" $root }}:{{ $role }}
{{- end -}}
{{- end -}}

{{- /* ClusterRoles that may be given to tenants' users, a JSON list. */}}
{{- define "cotenant.bindableClusterRoles" -}}
{{- $roles := .Values.rbac.bindableClusterRoles -}}
{{- if include "cotenant.isCapsule" . }}{{ $roles = concat $roles .Values.manager.rbac.bindableClusterRoles }}{{ end -}}
{{- uniq $roles | toJson -}}
{{- end -}}

{{- /* ClusterRoles that the operator keeps, a JSON list. */}}
{{- define "cotenant.managedClusterRoles" -}}
{{- $roles := .Values.rbac.managedClusterRoles -}}
{{- if include "cotenant.isCapsule" . -}}
{{- with .Values.manager.options.rbac }}{{ $roles = concat $roles (list .provisioner .deleter) }}{{ end -}}
{{- end -}}
{{- uniq (compact $roles) | toJson -}}
{{- end -}}

{{- define "cotenant.serviceAccountName" -}}
{{- default (ternary (include "cotenant.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "cotenant.configurationName" -}}
{{- ternary .Values.manager.options.capsuleConfiguration .Values.configuration.name (eq .Values.mode "namespaces") -}}
{{- end -}}

{{- /* Secret of the webhooks' certificate; empty: the operator's own default. */}}
{{- define "cotenant.tlsSecret" -}}
{{- if include "cotenant.isCapsule" . -}}
{{- default (printf "%s-tls" (include "cotenant.fullname" .)) .Values.tls.name -}}
{{- else if .Values.configuration.create -}}
{{- dig "overrides" "TLSSecretName" "" (default dict .Values.configuration.spec) -}}
{{- end -}}
{{- end -}}

{{- define "cotenant.labels" -}}
app.kubernetes.io/name: {{ include "cotenant.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* With Capsule's names, the labels that charts have by convention and no more: a selector cannot be changed. */}}
{{- define "cotenant.selector" -}}
app.kubernetes.io/name: {{ include "cotenant.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- if not (include "cotenant.isCapsule" .) }}
app.kubernetes.io/component: operator
{{- end }}
{{- end -}}

{{- define "cotenant.image" -}}
{{- if include "cotenant.isCapsule" . -}}
{{- with .Values.manager.image }}
{{- $repository := default $.Values.image.repository .repository -}}
{{- if and .registry .repository }}{{ $repository = printf "%s/%s" .registry .repository }}{{ end -}}
{{ $repository }}:{{ default $.Chart.AppVersion (default $.Values.image.tag .tag) }}
{{- end -}}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "cotenant.imagePullPolicy" -}}
{{- if include "cotenant.isCapsule" . }}{{ default .Values.image.pullPolicy .Values.manager.image.pullPolicy }}{{ else }}{{ .Values.image.pullPolicy }}{{ end -}}
{{- end -}}

{{- define "cotenant.etcd.fullname" -}}
{{- printf "%s-etcd" (include "cotenant.fullname" .) -}}
{{- end -}}

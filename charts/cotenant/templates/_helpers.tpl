{{- /* `true` for a release with Capsule's names, values and flags. */}}
{{- define "cotenant.isCapsule" -}}
{{- if eq .Values.mode "namespaces" }}true{{ end -}}
{{- end -}}

{{- /* `true` for a release with Kamaji's names, values and flags. */}}
{{- define "cotenant.isKamaji" -}}
{{- if eq .Values.mode "control-planes" }}true{{ end -}}
{{- end -}}

{{- /* Nothing but the definitions and what belongs to them was asked for. */}}
{{- define "cotenant.isExclusive" -}}
{{- if and (include "cotenant.isCapsule" .) (or .Values.crds.exclusive .Values.webhooks.exclusive) }}true{{ end -}}
{{- end -}}

{{- /* Halves of the operator, a JSON list. */}}
{{- define "cotenant.components" -}}
{{- get (dict "namespaces" (list "namespace-tenants") "control-planes" (list "control-planes") "all" .Values.components) .Values.mode | toJson -}}
{{- end -}}

{{- define "cotenant.name" -}}
{{- default (get (dict "namespaces" "capsule" "control-planes" "kamaji" "all" .Chart.Name) .Values.mode) .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
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
{{- else if include "cotenant.isKamaji" $root -}}
{{ include "cotenant.fullname" $root }}-{{ ternary "manager" $role (eq $role "control-planes") }}-role
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
{{- $own := ternary "kamaji-controller-manager" (include "cotenant.fullname" .) (eq .Values.mode "control-planes") -}}
{{- default (ternary $own "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "cotenant.configurationName" -}}
{{- ternary .Values.manager.options.capsuleConfiguration .Values.configuration.name (eq .Values.mode "namespaces") -}}
{{- end -}}

{{- /* Secret of the webhooks' certificate; empty: the operator's own default. */}}
{{- define "cotenant.tlsSecret" -}}
{{- if include "cotenant.isCapsule" . -}}
{{- default (printf "%s-tls" (include "cotenant.fullname" .)) .Values.tls.name -}}
{{- else if include "cotenant.isKamaji" . -}}
{{- /* The peer's is cert-manager's and ends when nobody renews it, so ours has another name. */ -}}
{{ include "cotenant.fullname" . }}-{{ ternary "webhook-server-cert" "tls" .Values.certManager.generateCertificates }}
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
{{- if include "cotenant.isKamaji" . }}
app.kubernetes.io/component: controller-manager
{{- else if not (include "cotenant.isCapsule" .) }}
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
{{- if include "cotenant.isKamaji" . -}}
{{- default (printf "%s-etcd" (include "cotenant.fullname" .)) (index .Values "kamaji-etcd").fullnameOverride -}}
{{- else -}}
{{- printf "%s-etcd" (include "cotenant.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- /* `true` where this release brings the datastore. One that another chart has left is not replaced. */}}
{{- define "cotenant.etcd.isOurs" -}}
{{- if include "cotenant.isKamaji" . -}}
{{- if and (index .Values "kamaji-etcd").deploy (not (include "cotenant.etcd.isForeign" .)) }}true{{ end -}}
{{- else if and .Values.etcd.enabled (has "control-planes" (include "cotenant.components" . | fromJsonArray)) }}true
{{- end -}}
{{- end -}}

{{- define "cotenant.etcd.isForeign" -}}
{{- with lookup "apps/v1" "StatefulSet" .Release.Namespace (include "cotenant.etcd.fullname" .) -}}
{{- if not (include "cotenant.isOfThisChart" .) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Whether an object of the cluster is of this chart. */}}
{{- define "cotenant.isOfThisChart" -}}
{{- if hasPrefix "cotenant-" (dig "labels" "helm.sh/chart" "" .metadata) }}true{{ end -}}
{{- end -}}

{{- define "cotenant.datastoreName" -}}
{{- $name := .Values.defaultDatastoreName -}}
{{- if include "cotenant.isKamaji" . }}{{ $name = (index .Values "kamaji-etcd").datastore.name }}{{ end -}}
{{- default "default" $name -}}
{{- end -}}

{{- /* Names of the ports of the pods, and the port of the probes. */}}
{{- define "cotenant.port" -}}
{{- $root := index . 0 }}{{ $port := index . 1 -}}
{{- get (ternary (dict "webhook" "webhook-server" "metrics" "metrics" "health" "healthcheck") (dict "webhook" "webhook" "metrics" "metrics" "health" "health") (eq $root.Values.mode "control-planes")) $port -}}
{{- end -}}

{{- define "cotenant.metricsPort" -}}
{{- ternary (splitList ":" .Values.metricsBindAddress | last) .Values.ports.metrics (eq .Values.mode "control-planes") -}}
{{- end -}}

{{- define "cotenant.healthPort" -}}
{{- get (dict "namespaces" 10080 "control-planes" (splitList ":" .Values.healthProbeBindAddress | last) "all" .Values.ports.health) .Values.mode -}}
{{- end -}}

{{- /* A probe whose port has the name that it has here. */}}
{{- define "cotenant.probe" -}}
{{- $root := index . 0 }}{{ $probe := deepCopy (index . 1) -}}
{{- if and (include "cotenant.isKamaji" $root) (eq (toString (dig "httpGet" "port" "" $probe)) "health") }}{{ $_ := set $probe.httpGet "port" "healthcheck" }}{{ end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- define "cotenant.hook" -}}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ . | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

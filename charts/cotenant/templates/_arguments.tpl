{{- /* Flags of `cotenant operator`. */}}
{{- define "cotenant.operatorArguments" -}}
- operator
- --components={{ join "," .Values.components }}
- --configuration-name={{ .Values.configuration.name }}
{{- with .Values.defaultDatastoreName }}
- --datastore={{ . }}
{{- end }}
- --service-node-port-range={{ .Values.serviceNodePortRange }}
{{- with .Values.adminNetworks }}
- --admin-networks={{ join "," . }}
{{- end }}
- --webhook-service-name={{ include "cotenant.fullname" . }}-webhook-service
- --webhook-port={{ .Values.ports.webhook }}
{{- /* What holds until the operator sees the configuration. */}}
{{- with include "cotenant.tlsSecret" . }}
- --tls-secret-name={{ . }}
{{- end }}
- --own-image={{ include "cotenant.image" . }}
{{- /* Helm deletes the ClusterRole with the release, and hooks and policies go with it. */}}
{{- if .Values.rbac.create }}
- --owner-cluster-role={{ include "cotenant.clusterRole" (list . "operator") }}
{{- end }}
- --metrics-bind-address=:{{ .Values.ports.metrics }}
- --health-probe-bind-address=:{{ .Values.ports.health }}
{{- if include "cotenant.etcd.isOurs" . }}
- --bundled-etcd={{ include "cotenant.etcd.fullname" . }}
{{- end }}
- --log-filter={{ .Values.log.filter }}
- --log-format={{ .Values.log.format }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Flags of `cotenant capsule`, which are those of Capsule's manager. */}}
{{- define "cotenant.capsule.arguments" -}}
{{- $options := .Values.manager.options -}}
- capsule
- --configuration-name={{ $options.capsuleConfiguration }}
- --webhook-port={{ .Values.manager.webhookPort }}
- --webhook-service-name={{ include "cotenant.fullname" . }}-webhook-service
- --webhook-service-port={{ include "cotenant.webhookServicePort" . }}
- --tls-secret-name={{ include "cotenant.tlsSecret" . }}
{{- if and .Values.rbac.create .Values.manager.rbac.create }}
- --owner-cluster-role={{ include "cotenant.clusterRole" (list . "operator") }}
{{- end }}
- --enable-leader-election={{ $options.leaderElection.enabled }}
{{- with $options.leaderElection.leaseDuration }}
- --leader-election-lease-duration={{ . }}
{{- end }}
{{- with $options.leaderElection.renewDeadline }}
- --leader-election-renew-deadline={{ . }}
{{- end }}
{{- with $options.leaderElection.retryPeriod }}
- --leader-election-retry-period={{ . }}
{{- end }}
- --zap-log-level={{ $options.logLevel }}
{{- range .Values.manager.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Flags of `cotenant kamaji manager`, which are those of Kamaji's. */}}
{{- define "cotenant.kamaji.arguments" -}}
- kamaji
- manager
- --health-probe-bind-address={{ .Values.healthProbeBindAddress }}
- --metrics-bind-address={{ .Values.metricsBindAddress }}
- --datastore={{ .Values.defaultDatastoreName }}
- --service-node-port-range={{ .Values.serviceNodePortRange }}
{{- with .Values.adminNetworks }}
- --admin-networks={{ join "," . }}
{{- end }}
- --webhook-service-name={{ include "cotenant.fullname" . }}-webhook-service
- --webhook-port={{ .Values.ports.webhook }}
- --tls-secret-name={{ include "cotenant.tlsSecret" . }}
- --own-image={{ include "cotenant.image" . }}
{{- if .Values.rbac.create }}
- --owner-cluster-role={{ include "cotenant.clusterRole" (list . "operator") }}
{{- end }}
{{- if include "cotenant.etcd.isOurs" . }}
- --bundled-etcd={{ include "cotenant.etcd.fullname" . }}
{{- end }}
{{- if .Values.loggingDevel.enable }}
- --zap-devel
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* The port that API servers call. Capsule's Service has the port that its pods listen on. */}}
{{- define "cotenant.webhookServicePort" -}}
{{- if include "cotenant.isCapsule" . }}{{ default 9443 .Values.webhooks.service.port }}{{ else }}443{{ end -}}
{{- end -}}

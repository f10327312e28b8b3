{{- define "cotenant.capsule.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "cotenant.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* Whether the operator makes the certificate of its webhooks. Who says nothing about certificates gets ours. */}}
{{- define "cotenant.capsule.keepsCertificate" -}}
{{- ternary (not .Values.certManager.generateCertificates) .Values.tls.enableController (kindIs "invalid" .Values.tls.enableController) -}}
{{- end -}}

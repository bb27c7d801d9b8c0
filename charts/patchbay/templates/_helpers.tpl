{{/* What every name begins with. */}}
{{- define "patchbay.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of something of the whole cluster. A namespace has no dot, so no two releases have one in common. */}}
{{- define "patchbay.clusterName" -}}
{{ include "patchbay.fullname" .root }}-{{ .name }}.{{ .root.Release.Namespace }}
{{- end -}}

{{/* By what pods of a component are found. */}}
{{- define "patchbay.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of an object that belongs to a component. */}}
{{- define "patchbay.labels" -}}
{{ include "patchbay.selector" . }}
app.kubernetes.io/part-of: patchbay
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image, by digest where there is one. */}}
{{- define "patchbay.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* What no pod of the chart is without. */}}
{{- define "patchbay.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAs.user }}
runAsUser: {{ . }}
{{- end }}
{{- with .Values.runAs.group }}
runAsGroup: {{ . }}
# mounted keys are for this group alone
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* What no container of the chart is without. */}}
{{- define "patchbay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Where a pod may run. */}}
{{- define "patchbay.placement" -}}
{{- with .own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "patchbay.selector" $ | fromYaml)) }}
{{- range .own.topologySpreadConstraints }}
  {{- /* one without a selector would be of no pod */}}
  - {{- (hasKey . "labelSelector" | ternary . (merge (dict) $selector .)) | toYaml | nindent 4 }}
{{- else }}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "patchbay.selector" $ | nindent 8 }}
    # a new revision is spread by itself, whatever the old one left
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}

{{/* The Service account of a component, as the API server names it. */}}
{{- define "patchbay.account" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "patchbay.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* The Secret with the root keys of sessions. */}}
{{- define "patchbay.sessionSecret" -}}
{{ include "patchbay.fullname" . }}-session-keys
{{- end -}}

{{/* The Secret with the certificate by which a role is known to workers. */}}
{{- define "patchbay.linkSecret" -}}
{{- $kind := ternary "certificate" "link" .root.Values.controlPlane.certManager.enabled -}}
{{ include "patchbay.fullname" .root }}-{{ .role }}-{{ $kind }}
{{- end -}}

{{/* How users address the gateway, if anybody said so. */}}
{{- define "patchbay.publicUrl" -}}
{{- if .Values.gateway.publicUrl -}}
{{ .Values.gateway.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.tlsSecretName -}}
https://{{ .Values.ingress.host }}
{{- end -}}
{{- end -}}

{{/* The gateway's port for users. */}}
{{- define "patchbay.port" -}}
{{- default (ternary 443 8080 (ne .Values.gateway.tls.secretName "")) .Values.gateway.service.port -}}
{{- end -}}

{{/* The gateway as pods of the cluster address it. */}}
{{- define "patchbay.internalUrl" -}}
{{ ternary "https" "http" (ne .Values.gateway.tls.secretName "") }}://{{ include "patchbay.fullname" . }}-gateway.{{ .Release.Namespace }}.svc:{{ include "patchbay.port" . }}
{{- end -}}

{{/* The gateway as a test in the cluster addresses it: where it ends TLS, by the name in its certificate. */}}
{{- define "patchbay.testUrl" -}}
{{- $public := include "patchbay.publicUrl" . -}}
{{- if and .Values.gateway.tls.secretName (hasPrefix "https://" $public) -}}
{{ $public }}
{{- else -}}
{{ include "patchbay.internalUrl" . }}
{{- end -}}
{{- end -}}

{{/* Peers of a NetworkPolicy: ranges, without what clouds keep at addresses of their own. */}}
{{- define "patchbay.ranges" -}}
{{- range . }}
- ipBlock:
    cidr: {{ . | quote }}
    {{- if eq . "0.0.0.0/0" }}
    except: [169.254.0.0/16, 168.63.129.16/32, 100.100.100.200/32]
    {{- else if eq . "::/0" }}
    except: ["fe80::/10", "fd00:ec2::/32"]
    {{- end }}
{{- end }}
{{- end -}}

{{/* Rules of a NetworkPolicy: what gateway and operator both reach. */}}
{{- define "patchbay.commonEgress" -}}
# names
- to:
    - namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: kube-system } }
      podSelector: { matchLabels: { k8s-app: kube-dns } }
    - ipBlock: { cidr: 169.254.20.10/32 }
    {{- range .Values.cluster.dns }}
    - ipBlock: { cidr: {{ . | quote }} }
    {{- end }}
  ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
# the API server
- to: {{- include "patchbay.ranges" .Values.networkPolicy.apiServer.cidrs | trim | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
# the agents of workers
- to:
    - podSelector:
        matchLabels: { app.kubernetes.io/component: worker, app.kubernetes.io/part-of: patchbay }
  ports: [{ protocol: TCP, port: 7443 }]
{{- end -}}

{{/* The classes that the chart makes: quilt's, and those in the values, by name. */}}
{{- define "patchbay.classes" -}}
{{- $classes := deepCopy .Values.classes -}}
{{- with .Values.quilt -}}
{{- if .enabled -}}
{{- $catalog := dict "origin" (printf "https://%s" .catalog) "registry" (printf "https://%s" .registry) "region" .region -}}
{{- with .caBundle }}{{ $_ := set $catalog "caBundle" . }}{{ end -}}
{{- $names := list -}}
{{- range $service := list "s3" "sts" "athena" "glue" -}}
{{- $names = append $names (printf "%s.%s.amazonaws.com" $service $.Values.quilt.region) -}}
{{- end -}}
{{- $hosts := list -}}
{{- range default $names .egress.hosts }}{{ $hosts = append $hosts (dict "host" .) }}{{ end -}}
{{- $spec := dict
      "path" .path
      "image" .image
      "profile" "quilt"
      "command" (list .python)
      "idleTimeout" .idleTimeout
      "resources" (dict "memory" .memory)
      "credentials" (dict "source" "catalog" "catalog" $catalog)
      "egress" (dict "hosts" $hosts "cidrs" .egress.cidrs) -}}
{{- if kindIs "invalid" .warm }}{{ else }}{{ $_ := set $spec "warm" (int .warm) }}{{ end -}}
{{- $_ := set $classes "quilt" (mergeOverwrite $spec (deepCopy .extraSpec)) -}}
{{- end -}}
{{- end -}}
{{- /* To the API server null is nothing said, so that its default takes the place of what an autoscaler says. */ -}}
{{- range $spec := $classes -}}
{{- if and (hasKey $spec "warm") (kindIs "invalid" $spec.warm) }}{{ $_ := unset $spec "warm" }}{{ end -}}
{{- end -}}
{{ toYaml $classes }}
{{- end -}}

{{/* The providers that the chart makes, by name. */}}
{{- define "patchbay.providers" -}}
{{- $providers := deepCopy .Values.providers -}}
{{- with .Values.quilt -}}
{{- if .enabled -}}
{{- $catalog := dict "origin" (printf "https://%s" .catalog) "registry" (printf "https://%s" .registry) -}}
{{- with .caBundle }}{{ $_ := set $catalog "caBundle" . }}{{ end -}}
{{- $_ := set $providers "quilt" (dict "classes" (list "quilt") "introspection" (dict "catalog" $catalog)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.clusterUsers -}}
{{- if .enabled -}}
{{- $jwt := dict "issuer" .issuer "audiences" (list "patchbay") "jwks" (dict "cluster" true) -}}
{{- $_ := set $providers "cluster-users" (dict "classes" .classes "jwt" $jwt) -}}
{{- end -}}
{{- end -}}
{{ toYaml $providers }}
{{- end -}}

{{/* Annotations of a pod of `helm test`. It stays for its logs, until the next test. */}}
{{- define "patchbay.testPod" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}

{{/* Annotations of what such a pod needs. It goes when the test is over. */}}
{{- define "patchbay.testNeed" -}}
helm.sh/hook: test
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

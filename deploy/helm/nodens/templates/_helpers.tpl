{{/* What several templates share: names, labels, and nodens.yaml as mode and values make it. */}}

{{/* The name of what is installed: the release's, with the chart's behind it unless that is part of it. */}}
{{- define "nodens.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of pods: no version, so that a new chart alone rolls nothing out. */}}
{{- define "nodens.podLabels" -}}
{{- $labels := dict "app.kubernetes.io/name" (.Values.nameOverride | default .Chart.Name)
                    "app.kubernetes.io/instance" .Release.Name
                    "k8s-app" (include "nodens.fullname" .) -}}
{{- merge $labels .Values.podLabels .Values.commonLabels | toYaml }}
{{- end }}

{{- define "nodens.labels" -}}
{{- $labels := dict "app.kubernetes.io/name" (.Values.nameOverride | default .Chart.Name)
                    "app.kubernetes.io/instance" .Release.Name
                    "app.kubernetes.io/component" "node-local-dns"
                    "app.kubernetes.io/version" .Chart.AppVersion
                    "app.kubernetes.io/managed-by" .Release.Service
                    "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) -}}
{{- merge $labels .Values.commonLabels | toYaml }}
{{- end }}

{{- define "nodens.selector" -}}
k8s-app: {{ include "nodens.fullname" . }}
{{- end }}

{{- define "nodens.serviceAccountName" -}}
{{- $created := .Values.serviceAccount.create | ternary (include "nodens.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $created -}}
{{- end }}

{{- define "nodens.image" -}}
{{- $version := printf ":%s" (.Values.image.tag | default .Chart.AppVersion) -}}
{{- .Values.image.repository }}{{ .Values.image.digest | empty | ternary $version (printf "@%s" .Values.image.digest) }}
{{- end }}

{{/* Not empty where the pods have a network of their own. */}}
{{- define "nodens.podNetwork" -}}
{{- eq .Values.mode "cilium" | ternary "true" "" -}}
{{- end }}

{{/* Not empty where nodens takes the address of the Service kube-dns, too. */}}
{{- define "nodens.serviceAddress" -}}
{{- has .Values.mode (list "kube-proxy-iptables" "kube-proxy-nftables") | ternary "true" "" -}}
{{- end }}

{{/* Where answers outlive a restart: on the node, or in the pod where nodens, not being root, could not write there. */}}
{{- define "nodens.persistence" -}}
{{- $podNetwork := include "nodens.podNetwork" . -}}
{{- if and $podNetwork (eq .Values.persistence "hostPath") -}}
{{- fail "persistence: in the mode cilium nodens is not root and cannot write a hostPath; emptyDir or none" -}}
{{- end -}}
{{- .Values.persistence | default (empty $podNetwork | ternary "hostPath" "emptyDir") -}}
{{- end }}

{{/* A lifetime for nodens: a bare number counts seconds. */}}
{{- define "nodens.lifetime" -}}
{{- $text := kindIs "string" . | ternary . (int64 .) | toString -}}
{{- $text }}{{ regexMatch "^[0-9]+$" $text | ternary "s" "" }}
{{- end }}

{{/* nodens.yaml: what the mode needs, what the values say, and over both what stands in `config`. */}}
{{- define "nodens.config" -}}
{{- $given := deepCopy .Values.config -}}
{{- $config := dict "cache" dict -}}

{{- if include "nodens.podNetwork" . -}}
{{- if .Values.dualStack -}}
{{- fail "dualStack: in the mode cilium nodens listens on all addresses of its pod, without being told" -}}
{{- end -}}
{{- if or $given.localDns $given.localDnsIp (dig "listen" "addresses" list $given) -}}
{{- fail "config: in the mode cilium there is no link-local address; leave out localDns, localDnsIp and listen.addresses" -}}
{{- end -}}
{{- $_ := set $config "network" (dict "interface" (dict "manage" false) "firewall" "none") -}}
{{/* At a stop /ready falls first, and queries are taken for as long as Cilium needs to learn of it. */ -}}
{{- $_ := set $config "health" (dict "lameDuck" "5s") -}}
{{- else -}}
{{- $addresses := list ($given.localDns | default $given.localDnsIp | default "169.254.20.10") -}}
{{- if .Values.dualStack -}}
{{- $addresses = append $addresses "fd00:169:254:20::10" -}}
{{- $_ := set $config "metrics" (dict "listen" (list "[::]:9253")) -}}
{{- end -}}
{{- if include "nodens.serviceAddress" . -}}
{{- $addresses = append $addresses (.Values.clusterDnsIp | default $given.dnsServer | default "kube-dns") -}}
{{- end -}}
{{- $_ := set $config "listen" (dict "addresses" $addresses) -}}
{{- end -}}

{{- $ttl := kindIs "invalid" .Values.cacheTtl | ternary $given.cacheTTL .Values.cacheTtl -}}
{{- if not (kindIs "invalid" $ttl) -}}
{{- $_ := set $config.cache "positive" (dict "maxTtl" (include "nodens.lifetime" $ttl)) -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.cacheNegativeTtl) -}}
{{- $_ := set $config.cache "negative" (dict "maxTtl" (include "nodens.lifetime" .Values.cacheNegativeTtl)) -}}
{{- end -}}
{{- if ne (include "nodens.persistence" .) "none" -}}
{{- $_ := set $config.cache "persist" (dict "path" "/var/lib/nodens/cache.bin") -}}
{{- end -}}

{{- if $given.dnsDomain -}}
{{- $_ := set $config "kubernetes" (dict "clusterDomain" $given.dnsDomain) -}}
{{- end -}}
{{- if or .Values.extraZones $given.commProtocol -}}
{{- if $given.zones -}}
{{- fail "config.zones says all zones: write those of extraZones, and the protocol of config.commProtocol, there" -}}
{{- end -}}
{{- $domain := dig "kubernetes" "clusterDomain" ($given.dnsDomain | default "cluster.local") $given -}}
{{- $protocol := $given.commProtocol | default "force_tcp" | get (dict "force_tcp" "tcp" "prefer_udp" "auto") -}}
{{- $cluster := dict "match" (list $domain "in-addr.arpa" "ip6.arpa")
                     "forward" (dict "to" (list "kube-dns") "protocol" $protocol) -}}
{{- $others := dict "match" (list ".") "forward" (dict "to" (list "/etc/resolv.conf")) -}}
{{- $_ := set $config "zones" (concat (list $cluster) .Values.extraZones (list $others)) -}}
{{- end -}}

{{- if not .Values.metricsEnabled -}}
{{- $_ := set $config "metrics" (dict "listen" list) -}}
{{- end -}}

{{- range list "dnsDomain" "dnsServer" "localDns" "localDnsIp" "cacheTTL" "commProtocol" "upstreamServiceSelector" -}}
{{- $_ := unset $given . -}}
{{- end -}}
{{- mergeOverwrite $config $given | toYaml -}}
{{- end }}

{{/* The parts of nodens.yaml that are read once; the cluster domain is in the name of those to fail over to. */}}
{{- define "nodens.readOnce" -}}
{{- $config := include "nodens.config" . | fromYaml -}}
{{- $cache := pick ($config.cache | default dict) "maxBytes" "persist" -}}
{{- set (pick $config "answers" "health" "kubernetes" "listen" "metrics" "network") "cache" $cache | toYaml -}}
{{- end }}

{{/* Where probes find nodens: `port`, and `host`, but in a network of the pod's own. Nothing if it is to answer none. */}}
{{- define "nodens.health" -}}
{{- $config := include "nodens.config" . | fromYaml -}}
{{- $podNetwork := include "nodens.podNetwork" . -}}
{{- $first := dig "listen" "addresses" (list "") $config | first -}}
{{- $listen := dig "health" "listen" (printf "%s:8080" $first) $config -}}
{{- if and (hasPrefix "kube-dns:" $listen) (not $podNetwork) -}}
{{- fail "config.listen.addresses: no probe knows the address kube-dns: begin with another, or set config.health.listen" -}}
{{- end -}}
{{- if dig "health" "enabled" true $config -}}
port: {{ regexFind "[0-9]+$" $listen }}
{{- if not $podNetwork }}
host: {{ regexReplaceAll ":[0-9]+$" $listen "" | trimAll "[]" | quote }}
{{- end }}
{{- end -}}
{{- end }}

{{/* The port of the metrics. */}}
{{- define "nodens.metricsPort" -}}
{{- $listen := include "nodens.config" . | fromYaml | dig "metrics" "listen" (list "0.0.0.0:9253") -}}
{{- if $listen }}{{ first $listen | regexFind "[0-9]+$" }}{{ end -}}
{{- end }}

{{/* What the cache may take, in Mi. */}}
{{- define "nodens.cacheMebibytes" -}}
{{- $size := include "nodens.config" . | fromYaml | dig "cache" "maxBytes" "64Mi" -}}
{{- $text := kindIs "string" $size | ternary $size (int64 $size) | toString -}}
{{- $unit := regexFind "[KMG]i$" $text | get (dict "Gi" 1073741824 "Mi" 1048576 "Ki" 1024 "" 1) -}}
{{- div (mul (regexFind "^[0-9]+" $text | int64) $unit | add 1048575) 1048576 -}}
{{- end }}

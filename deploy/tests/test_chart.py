"""The Helm chart: the same objects as the overlays, what its values do, what it refuses, what it tells and tests."""

import contextlib
import copy
import functools
import json
import os
import re
import socket
import subprocess
import tarfile

import pytest
import yaml

import support
from node import KUBE_DNS, Node
from support import CHART, DEPLOY, NODENS, ROOT, TOOLS, named, run

# Values, and the overlay that they stand for.
MODES = {
    "kube-proxy-iptables": {"mode": "kube-proxy-iptables"},
    "kube-proxy-nftables": {"mode": "kube-proxy-nftables"},
    "kube-proxy-ipvs": {"mode": "kube-proxy-ipvs"},
    "link-local-only": {"mode": "link-local-only"},
    "cilium": {"mode": "cilium"},
    "dual-stack": {"dualStack": True},
}
MONITORS = ["serviceMonitor", "podMonitor", "rules", "dashboard"]
# What somebody might write, all of which must be valid, and a configuration for nodens.
GIVEN = MODES | {
    "defaults": {},
    "dual-stack by IPVS": {"mode": "kube-proxy-ipvs", "dualStack": True},
    "from the charts of node-cache": {
        "config": {
            "dnsDomain": "k8s.example",
            "localDns": "169.254.20.25",
            "dnsServer": "172.20.0.10",
            "cacheTTL": 60,
            "commProtocol": "prefer_udp",
            "upstreamServiceSelector": {"app": "coredns"},
        },
    },
    "on EKS": {"clusterDnsIp": "172.20.0.10", "cacheTtl": 30, "cacheNegativeTtl": 5, "metricsEnabled": True},
    "no metrics": {"metricsEnabled": False},
    "no metrics with Cilium": {"mode": "cilium", "metricsEnabled": False, "persistence": "none"},
    "no health checks": {"config": {"health": {"enabled": False}}},
    "split DNS": {"extraZones": [{"match": ["corp.example"], "forward": {"to": ["10.1.0.53"], "policy": "sequential"}}]},
    "IPv6 alone": {"config": {"listen": {"addresses": ["fd00::10"]}, "metrics": {"listen": ["[::]:9253"]}}},
    "a sidecar's needs": {
        "env": [{"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "initContainers": [{"name": "wait", "image": "busybox"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "daemonsetAnnotations": {"a": "b"},
        "commonLabels": {"team": "net"},
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "securityContext": {"runAsUser": 0},
        "podSecurityContext": {"fsGroup": 1},
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
    },
    "watched": {"monitoring": {name: {"enabled": True, "labels": {"release": "prom"}} for name in MONITORS}},
    "watched, with Cilium": {"mode": "cilium", "monitoring": {name: {"enabled": True} for name in MONITORS}},
}


@functools.cache
def rendered(values):
    return support.chart(values=json.loads(values))


def chart(values):
    """The objects of the chart, which nobody may change."""
    return rendered(json.dumps(values))


@functools.cache
def validate(thing):
    """Most objects are the same whatever the values: each is held against the schemas once."""
    support.validate(json.loads(thing))


def plain(thing):
    """An object without what Helm alone adds, nodens.yaml read, and in order what has none."""
    thing = copy.deepcopy(thing)
    template = thing.get("spec", {}).get("template", {"metadata": {}})
    for metadata in thing["metadata"], template["metadata"]:
        for label in "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart":
            metadata.get("labels", {}).pop(label, None)
    template["metadata"].get("annotations", {}).pop("checksum/config", None)
    if "spec" in template:
        for listed in template["spec"]["volumes"], *(one["volumeMounts"] for one in template["spec"]["containers"]):
            listed.sort(key=lambda one: one["name"])
    if "nodens.yaml" in thing.get("data", {}):
        thing["data"]["nodens.yaml"] = yaml.safe_load(thing["data"]["nodens.yaml"])
    return thing


def identified(found):
    """The objects by kind and name, but for hooks."""
    mine = [plain(thing) for thing in found if "helm.sh/hook" not in thing["metadata"].get("annotations", {})]
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in mine}


def config(found):
    """nodens.yaml of a rendered chart."""
    return yaml.safe_load(named(found, "ConfigMap", "nodens")["data"]["nodens.yaml"])


def at(thing, path):
    """What stands at a path such as `spec.ports.0.port` or `spec.ports.dns.port`, None if there is nothing."""
    for step in path.split("."):
        if isinstance(thing, list):
            thing = dict(enumerate(thing)) | {one["name"]: one for one in thing if "name" in one}
            step = int(step) if step.isdigit() else step
        if step not in thing:
            return None
        thing = thing[step]
    return thing


def refusal(values):
    done = run(TOOLS / "helm", "template", "nodens", CHART, "--values", "-", check=False, input=yaml.safe_dump(values))
    assert done.returncode != 0, f"not refused: {values}"
    return done.stderr


@pytest.mark.parametrize("name", MODES)
def test_a_mode_is_its_overlay(name):
    assert identified(chart(MODES[name])) == identified(support.overlay(name))


def test_monitoring_is_what_stands_in_observability():
    enabled = {"monitoring": {name: {"enabled": True} for name in MONITORS}}
    more = identified(chart(enabled))
    for thing in identified(chart({})):
        del more[thing]
    pod_monitor = plain(yaml.safe_load((DEPLOY / "observability" / "podmonitor.yaml").read_text()))
    assert more.pop(("PodMonitor", "nodens")) == pod_monitor
    assert more == identified(support.overlay("prometheus-operator"))


@pytest.mark.parametrize("name", GIVEN)
def test_objects_and_configuration_are_valid(name, tmp_path):
    found = chart(GIVEN[name])
    for thing in found:
        validate(json.dumps(thing))
        assert thing["metadata"]["namespace"] == "kube-system", "where the Services' addresses are in the environment"
    support.check_config(named(found, "ConfigMap", "nodens")["data"]["nodens.yaml"], tmp_path)


@pytest.mark.parametrize("name", [*MODES, "watched", "no metrics with Cilium", "a sidecar's needs"])
def test_lint_has_nothing_to_say(name):
    said = run(TOOLS / "helm", "lint", "--strict", CHART, "--values", "-", input=yaml.safe_dump(GIVEN[name]))
    assert not re.search("WARNING|ERROR", said), said


@pytest.mark.parametrize("example", sorted((ROOT / "config" / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_can_be_given_as_config(example, tmp_path):
    given = yaml.safe_load(example.read_text()) or {}
    found = chart({"config": given})
    for key, value in given.items():
        if not isinstance(value, dict):
            assert config(found)[key] == value, "lists replace lists"
    support.check_config(named(found, "ConfigMap", "nodens")["data"]["nodens.yaml"], tmp_path)


POD = "spec.template.spec"
CONTAINER = POD + ".containers.nodens"
LIST = [{"match": ["."], "forward": {"to": ["9.9.9.9"]}}]
CLUSTER = {"match": ["cluster.local", "in-addr.arpa", "ip6.arpa"], "forward": {"to": ["kube-dns"], "protocol": "tcp"}}
OTHERS = {"match": ["."], "forward": {"to": ["/etc/resolv.conf"]}}


@pytest.mark.parametrize(
    "values, what, path, expected",
    [
        # The image.
        ({"image": {"repository": "r.example/nodens"}}, "DaemonSet", CONTAINER + ".image", "r.example/nodens:0.1.0"),
        ({"image": {"tag": "next"}}, "DaemonSet", CONTAINER + ".image", "nodens:next"),
        ({"image": {"digest": "sha256:" + "0" * 64}}, "DaemonSet", CONTAINER + ".image", "nodens@sha256:" + "0" * 64),
        ({"image": {"pullPolicy": "Always"}}, "DaemonSet", CONTAINER + ".imagePullPolicy", "Always"),
        ({"imagePullSecrets": [{"name": "a"}]}, "DaemonSet", POD + ".imagePullSecrets", [{"name": "a"}]),
        ({"imagePullSecrets": [{"name": "a"}]}, "Pod", "spec.imagePullSecrets", [{"name": "a"}]),
        # Addresses.
        ({}, "config", "listen.addresses", ["169.254.20.10", "kube-dns"]),
        ({"clusterDnsIp": "10.0.0.10"}, "config", "listen.addresses", ["169.254.20.10", "10.0.0.10"]),
        ({"config": {"dnsServer": "10.0.0.10"}}, "config", "listen.addresses", ["169.254.20.10", "10.0.0.10"]),
        (
            {"clusterDnsIp": "10.0.0.10", "config": {"dnsServer": "10.9.9.9"}},
            "config", "listen.addresses", ["169.254.20.10", "10.0.0.10"],
        ),
        (
            {"mode": "kube-proxy-ipvs", "clusterDnsIp": "10.0.0.10"}, "config", "listen.addresses", ["169.254.20.10"],
        ),
        ({"config": {"localDns": "169.254.20.25"}}, "config", "listen.addresses", ["169.254.20.25", "kube-dns"]),
        ({"config": {"localDns": "169.254.20.25"}}, "DaemonSet", CONTAINER + ".livenessProbe.httpGet.host", "169.254.20.25"),
        ({"config": {"localDns": "169.254.20.25"}}, "config", "localDns", None),
        (
            {"mode": "link-local-only", "config": {"localDnsIp": "169.254.20.12"}},
            "config", "listen.addresses", ["169.254.20.12"],
        ),
        ({"config": {"listen": {"addresses": ["10.9.9.9"]}}}, "config", "listen.addresses", ["10.9.9.9"]),
        ({"config": {"listen": {"port": 5353}}}, "config", "listen.addresses", ["169.254.20.10", "kube-dns"]),
        ({"mode": "cilium"}, "config", "listen", None),
        ({"dualStack": True}, "Service kube-dns-endpoints", "spec.ipFamilyPolicy", "PreferDualStack"),
        # Lifetimes.
        ({}, "config", "cache.positive", None),
        ({"cacheTtl": 30}, "config", "cache.positive.maxTtl", "30s"),
        ({"cacheTtl": 0}, "config", "cache.positive.maxTtl", "0s"),
        ({"cacheTtl": "30"}, "config", "cache.positive.maxTtl", "30s"),
        ({"cacheTtl": "5m"}, "config", "cache.positive.maxTtl", "5m"),
        ({"cacheTtl": 604800}, "config", "cache.positive.maxTtl", "604800s"),
        ({"cacheNegativeTtl": 0}, "config", "cache.negative.maxTtl", "0s"),
        ({"cacheNegativeTtl": "1m"}, "config", "cache.negative.maxTtl", "1m"),
        ({"config": {"cacheTTL": 60}}, "config", "cache.positive.maxTtl", "60s"),
        ({"config": {"cacheTTL": 60}, "cacheTtl": 20}, "config", "cache.positive.maxTtl", "20s"),
        (
            {"config": {"cache": {"positive": {"maxTtl": "9s"}}}, "cacheTtl": 20}, "config", "cache.positive.maxTtl", "9s",
        ),
        (
            {"config": {"cache": {"positive": {"minTtl": "9s"}}}, "cacheTtl": 20},
            "config", "cache.positive", {"minTtl": "9s", "maxTtl": "20s"},
        ),
        # Zones.
        ({}, "config", "zones", None),
        ({"config": {"dnsDomain": "k8s.example"}}, "config", "kubernetes.clusterDomain", "k8s.example"),
        ({"config": {"dnsDomain": "k8s.example"}}, "config", "zones", None),
        ({"config": {"zones": LIST}}, "config", "zones", LIST),
        ({"extraZones": LIST}, "config", "zones", [CLUSTER, *LIST, OTHERS]),
        (
            {"extraZones": LIST, "config": {"dnsDomain": "k8s.example"}},
            "config", "zones.0.match", ["k8s.example", "in-addr.arpa", "ip6.arpa"],
        ),
        (
            {"extraZones": LIST, "config": {"kubernetes": {"clusterDomain": "k8s.example"}}},
            "config", "zones.0.match", ["k8s.example", "in-addr.arpa", "ip6.arpa"],
        ),
        ({"config": {"commProtocol": "force_tcp"}}, "config", "zones.0.forward.protocol", "tcp"),
        ({"config": {"commProtocol": "prefer_udp"}}, "config", "zones.0.forward.protocol", "auto"),
        # Metrics.
        ({}, "config", "metrics", None),
        ({}, "Service nodens", "spec.ports.metrics.port", 9253),
        (
            {}, "DaemonSet", "spec.template.metadata.annotations",
            {"prometheus.io/scrape": "true", "prometheus.io/port": "9253"},
        ),
        ({"metricsEnabled": False}, "config", "metrics.listen", []),
        ({"metricsEnabled": False}, "DaemonSet", "spec.template.metadata.annotations", {}),
        ({"metricsEnabled": False}, "Service nodens", "kind", None),
        ({"metricsEnabled": False, "dualStack": True}, "config", "metrics.listen", []),
        ({"metricsEnabled": False, "mode": "cilium"}, "DaemonSet", CONTAINER + ".ports.metrics", None),
        ({"config": {"metrics": {"listen": ["127.0.0.1:99"]}}}, "Service nodens", "spec.ports.metrics.targetPort", 99),
        (
            {"config": {"metrics": {"listen": ["[::]:99"]}}},
            "DaemonSet", "spec.template.metadata.annotations", {"prometheus.io/scrape": "true", "prometheus.io/port": "99"},
        ),
        ({"config": {"metrics": {"listen": []}}}, "Service nodens", "kind", None),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True}}}, "DaemonSet", "spec.template.metadata.annotations", {},
        ),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prom"}}}},
            "ServiceMonitor", "metadata.labels.release", "prom",
        ),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "1m"}}},
            "ServiceMonitor", "spec.endpoints.0.interval", "1m",
        ),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True, "interval": ""}}},
            "ServiceMonitor", "spec.endpoints.0.interval", None,
        ),
        (
            {"monitoring": {"podMonitor": {"enabled": True}}, "config": {"metrics": {"listen": ["0.0.0.0:99"]}}},
            "PodMonitor", "spec.podMetricsEndpoints.0.relabelings.0.replacement", "$1:99",
        ),
        ({"monitoring": {"podMonitor": {"enabled": True}}}, "DaemonSet", "spec.template.metadata.annotations", {}),
        (
            {"monitoring": {"rules": {"enabled": True, "labels": {"role": "alerts"}}}},
            "PrometheusRule", "metadata.labels.role", "alerts",
        ),
        (
            {"monitoring": {"dashboard": {"enabled": True, "labels": {"folder": "dns"}}}},
            "ConfigMap nodens-dashboard", "metadata.labels.folder", "dns",
        ),
        # Probes.
        (
            {"config": {"health": {"listen": "[fd00::1]:99"}}},
            "DaemonSet", CONTAINER + ".readinessProbe.httpGet.host", "fd00::1",
        ),
        ({"config": {"health": {"listen": "[fd00::1]:99"}}}, "DaemonSet", CONTAINER + ".readinessProbe.httpGet.port", 99),
        ({"config": {"health": {"enabled": False}}}, "DaemonSet", CONTAINER + ".livenessProbe", None),
        (
            {"config": {"listen": {"addresses": ["fd00::10"]}}},
            "DaemonSet", CONTAINER + ".startupProbe.httpGet.host", "fd00::10",
        ),
        # The cache's file.
        ({"persistence": "none"}, "config", "cache.persist", None),
        ({"persistence": "none"}, "DaemonSet", POD + ".volumes.state", None),
        ({"persistence": "none"}, "DaemonSet", CONTAINER + ".volumeMounts.state", None),
        ({"persistence": "emptyDir"}, "DaemonSet", POD + ".volumes.state.emptyDir", {"sizeLimit": "256Mi"}),
        (
            {"config": {"cache": {"persist": {"path": "/cache/a.bin"}}}},
            "DaemonSet", CONTAINER + ".volumeMounts.state.mountPath", "/cache",
        ),
        (
            {"config": {"cache": {"persist": {"interval": "5s"}}}},
            "config", "cache.persist.path", "/var/lib/nodens/cache.bin",
        ),
        # Memory.
        ({}, "DaemonSet", CONTAINER + ".resources.limits.memory", "128Mi"),
        ({"config": {"cache": {"maxBytes": "256Mi"}}}, "DaemonSet", CONTAINER + ".resources.limits.memory", "320Mi"),
        ({"config": {"cache": {"maxBytes": "1Gi"}}}, "DaemonSet", CONTAINER + ".resources.limits.memory", "1088Mi"),
        ({"config": {"cache": {"maxBytes": "1500Ki"}}}, "DaemonSet", CONTAINER + ".resources.limits.memory", "66Mi"),
        ({"config": {"cache": {"maxBytes": 268435456}}}, "DaemonSet", CONTAINER + ".resources.limits.memory", "320Mi"),
        (
            {"config": {"cache": {"maxBytes": "1Gi"}}, "persistence": "emptyDir"},
            "DaemonSet", POD + ".volumes.state.emptyDir.sizeLimit", "4096Mi",
        ),
        (
            {"resources": {"limits": {"memory": "1Gi"}}, "config": {"cache": {"maxBytes": "256Mi"}}},
            "DaemonSet", CONTAINER + ".resources.limits", {"memory": "1Gi"},
        ),
        (
            {"resources": {"requests": {"cpu": "1"}}}, "DaemonSet", CONTAINER + ".resources",
            {"requests": {"cpu": "1", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        ),
        ({"resources": {"limits": None}}, "DaemonSet", CONTAINER + ".resources.limits", None),
        # kube-dns.
        ({"kubeDns": {"createServices": False}}, "Service kube-dns-upstream", "kind", None),
        ({"kubeDns": {"createServices": False}}, "Service kube-dns-endpoints", "kind", None),
        (
            {"kubeDns": {"selector": {"k8s-app": None, "app": "coredns"}}},
            "Service kube-dns-upstream", "spec.selector", {"app": "coredns"},
        ),
        (
            {"config": {"upstreamServiceSelector": {"app": "coredns"}}},
            "Service kube-dns-endpoints", "spec.selector", {"app": "coredns"},
        ),
        # The pods.
        ({"priorityClassName": "high"}, "DaemonSet", POD + ".priorityClassName", "high"),
        ({"nodeSelector": {"a": "b"}}, "DaemonSet", POD + ".nodeSelector", {"kubernetes.io/os": "linux", "a": "b"}),
        ({"nodeSelector": {"a": "b"}}, "Pod", "spec.nodeSelector", {"kubernetes.io/os": "linux", "a": "b"}),
        ({"tolerations": []}, "DaemonSet", POD + ".tolerations", None),
        ({"affinity": {"nodeAffinity": None}}, "DaemonSet", POD + ".affinity", None),
        (
            {"updateStrategy": {"rollingUpdate": {"maxSurge": "5%"}}},
            "DaemonSet", "spec.updateStrategy.rollingUpdate", {"maxSurge": "5%", "maxUnavailable": 0},
        ),
        ({"minReadySeconds": 0}, "DaemonSet", "spec.minReadySeconds", 0),
        ({"terminationGracePeriodSeconds": 90}, "DaemonSet", POD + ".terminationGracePeriodSeconds", 90),
        ({"podAnnotations": {"a": "b"}}, "DaemonSet", "spec.template.metadata.annotations.a", "b"),
        (
            {"podAnnotations": {"prometheus.io/scrape": "false"}}, "DaemonSet",
            "spec.template.metadata.annotations", {"prometheus.io/scrape": "false", "prometheus.io/port": "9253"},
        ),
        ({"podLabels": {"k8s-app": "b"}}, "DaemonSet", "spec.template.metadata.labels.k8s-app", "nodens"),
        ({"podLabels": {"a": "b"}}, "DaemonSet", "spec.template.metadata.labels.a", "b"),
        ({"daemonsetAnnotations": {"a": "b"}}, "DaemonSet", "metadata.annotations", {"a": "b"}),
        ({"commonLabels": {"a": "b"}}, "Service nodens", "metadata.labels.a", "b"),
        ({"commonLabels": {"a": "b"}}, "DaemonSet", "spec.template.metadata.labels.a", "b"),
        ({"commonLabels": {"a": "b"}}, "DaemonSet", "spec.selector.matchLabels", {"k8s-app": "nodens"}),
        ({"env": [{"name": "A", "value": "b"}]}, "DaemonSet", CONTAINER + ".env", [{"name": "A", "value": "b"}]),
        ({"env": [{"name": "A", "value": "b"}], "mode": "cilium"}, "DaemonSet", CONTAINER + ".env.A.value", "b"),
        ({"extraVolumes": [{"name": "a", "emptyDir": {}}]}, "DaemonSet", POD + ".volumes.a", {"name": "a", "emptyDir": {}}),
        (
            {"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]},
            "DaemonSet", CONTAINER + ".volumeMounts.a.mountPath", "/a",
        ),
        ({"initContainers": [{"name": "a", "image": "b"}]}, "DaemonSet", POD + ".initContainers.a.image", "b"),
        ({"securityContext": {"privileged": True}}, "DaemonSet", CONTAINER + ".securityContext", {"privileged": True}),
        ({"podSecurityContext": {"fsGroup": 7}}, "DaemonSet", POD + ".securityContext", {"fsGroup": 7}),
        ({"podSecurityContext": {"fsGroup": 7}, "mode": "cilium"}, "DaemonSet", POD + ".securityContext", {"fsGroup": 7}),
        ({"serviceAccount": {"create": False}}, "ServiceAccount", "kind", None),
        ({"serviceAccount": {"create": False}}, "DaemonSet", POD + ".serviceAccountName", "default"),
        ({"serviceAccount": {"name": "dns"}}, "DaemonSet", POD + ".serviceAccountName", "dns"),
        ({"serviceAccount": {"name": "dns"}}, "ServiceAccount", "metadata.name", "dns"),
        ({"serviceAccount": {"annotations": {"a": "b"}}}, "ServiceAccount", "metadata.annotations", {"a": "b"}),
        # The test.
        (
            {"test": {"image": {"repository": "r.example/dig", "tag": "1"}}},
            "Pod", "spec.containers.dns.image", "r.example/dig:1",
        ),
        ({}, "Pod", "spec.containers.dns.env.SERVERS.value", "169.254.20.10 $(KUBE_DNS_SERVICE_HOST)"),
        ({"mode": "cilium"}, "Pod", "spec.containers.dns.env.SERVERS.value", "$(KUBE_DNS_SERVICE_HOST)"),
        ({}, "Pod", "spec.containers.dns.env.READY.value", "http://169.254.20.10:8080/ready"),
        (
            {"config": {"listen": {"addresses": ["fd00::10"]}}}, "Pod", "spec.containers.dns.env.READY.value",
            "http://[fd00::10]:8080/ready",
        ),
        (
            {"mode": "cilium"}, "Pod", "spec.containers.dns.env.READY.value",
            "http://nodens.kube-system.svc.cluster.local:8080/ready",
        ),
        ({"mode": "cilium", "metricsEnabled": False}, "Pod", "spec.containers.dns.env.READY", None),
        (
            {"config": {"dnsDomain": "k8s.example"}}, "Pod", "spec.containers.dns.env.NAME.value",
            "kubernetes.default.svc.k8s.example.",
        ),
        ({"global": {"region": "eu"}}, "ServiceAccount", "metadata.name", "nodens"),
    ],
    ids=str,
)
def test_values(values, what, path, expected):
    found = chart(values)
    if what == "config":
        thing = config(found)
    else:
        kind, _, name = what.partition(" ")
        fitting = [plain(o) for o in found if o["kind"] == kind and name in ("", o["metadata"]["name"])]
        assert len(fitting) <= 1
        thing = fitting[0] if fitting else {}
    assert at(thing, path) == expected


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mode": "ipvs"}, "at '/mode': value must be one of 'kube-proxy-iptables', "),
        ({"clusterDnsIP": "10.96.0.10"}, "additional properties 'clusterDnsIP' not allowed"),
        ({"clusterDnsIp": "kube-dns"}, "at '/clusterDnsIp'"),
        ({"cacheTtl": "5 minutes"}, "at '/cacheTtl': '5 minutes' does not match"),
        ({"cacheTtl": -1}, "at '/cacheTtl': minimum: got -1"),
        ({"cacheTtl": 1.5}, "at '/cacheTtl': got number, want null or integer or string"),
        ({"persistence": "pvc"}, "at '/persistence': value must be one of '', 'hostPath', "),
        ({"image": {"name": "nodens"}}, "at '/image': additional properties 'name' not allowed"),
        ({"image": {"digest": "abc"}}, "at '/image/digest'"),
        ({"config": {"zone": []}}, "at '/config': additional properties 'zone' not allowed"),
        ({"config": {"cache": {"maxBytes": "64MB"}}}, "at '/config/cache/maxBytes': '64MB' does not match"),
        ({"config": {"listen": {"addresses": "169.254.20.10"}}}, "at '/config/listen/addresses': got string, want array"),
        ({"config": {"health": {"listen": "169.254.20.10"}}}, "at '/config/health/listen'"),
        ({"monitoring": {"rules": True}}, "at '/monitoring/rules': got boolean, want object"),
        # What must not be passed over because other charts have it.
        ({"config": {"bindIp": True}}, "at '/config/bindIp': value must be 'left out: "),
        ({"config": {"commProtocol": "udp"}}, "at '/config/commProtocol': value must be one of 'force_tcp', 'prefer_udp'"),
        ({"config": {"customConfig": ".:53 {}"}}, "'written in the keys of nodens, which `nodens migrate Corefile` prints'"),
        ({"config": {"customUpstreamsvc": "a"}}, "write kubeDns.selector"),
        ({"config": {"enableLogging": True}}, "config.zones[].log"),
        ({"config": {"extraServerBlocks": "a:53 {}"}}, "extraZones"),
        ({"config": {"healthPort": 8080}}, "config.health.listen"),
        ({"config": {"noIPv6Lookups": True}}, "acl: [{ action: filter, types: [AAAA] }]"),
        ({"config": {"port": {"number": 53}}}, "config.listen.port"),
        ({"config": {"prefetch": {"enabled": True}}}, "config.cache.prefetch"),
        ({"config": {"setupInterface": True}}, "config.network.interface.manage"),
        ({"config": {"setupIptables": False}}, "config.network.firewall"),
        ({"config": {"skipTeardown": True}}, "config.network.interface.keep"),
        ({"config": {"upstreamServers": "9.9.9.9"}}, "config.zones[].forward.to"),
        ({"config": {"upstreamForwardConfig": {"a": 1}}}, "config.zones[].forward"),
        ({"image": {"args": {"quiet": True}}}, "at '/image/args'"),
        ({"useHostNetwork": True}, "written as mode"),
        ({"serviceMonitor": {"enabled": True}}, "'written as monitoring.serviceMonitor'"),
        ({"dashboard": {"enabled": True}}, "'written as monitoring.dashboard'"),
        ({"prometheusScraping": {"enabled": True}}, "'written as metricsEnabled'"),
        ({"metrics": {"port": 9253}}, "'written as metricsEnabled, or config.metrics'"),
        ({"configMapAnnotations": {"a": "b"}}, "at '/configMapAnnotations'"),
        # What does not go together.
        ({"mode": "cilium", "persistence": "hostPath"}, "persistence: in the mode cilium nodens is not root"),
        ({"mode": "cilium", "dualStack": True}, "dualStack: in the mode cilium"),
        ({"mode": "cilium", "config": {"localDns": "169.254.20.25"}}, "config: in the mode cilium there is no link-local"),
        ({"mode": "cilium", "config": {"listen": {"addresses": ["10.9.9.9"]}}}, "config: in the mode cilium there is no"),
        ({"extraZones": LIST, "config": {"zones": LIST}}, "config.zones says all zones"),
        ({"config": {"commProtocol": "force_tcp", "zones": LIST}}, "config.zones says all zones"),
        ({"config": {"listen": {"addresses": ["kube-dns"]}}}, "no probe knows the address kube-dns"),
        ({"metricsEnabled": False, "monitoring": {"serviceMonitor": {"enabled": True}}}, "there are no metrics"),
        ({"metricsEnabled": False, "monitoring": {"podMonitor": {"enabled": True}}}, "there are no metrics"),
    ],
    ids=str,
)
def test_refused_values(values, message):
    assert message in refusal(values)


def test_what_is_followed_takes_no_roll_out():
    followed = {"cacheTtl": 5, "extraZones": LIST, "config": {"log": {"level": "warn"}, "limits": {"inFlight": 5}}}
    assert named(chart(followed), "DaemonSet") == named(chart({}), "DaemonSet")


def test_what_is_read_once_takes_a_roll_out():
    """Every key of which nodens itself says so, given a value that it has not by default."""
    def read_once(schema, path=()):
        if "Takes a restart" in schema.get("description", "") and "properties" not in schema:
            yield path
        for key, value in schema.get("properties", {}).items():
            yield from read_once(value, (*path, key))

    others = {
        "listen.addresses": ["10.9.9.9"],
        "metrics.listen": ["0.0.0.0:99"],
        "health.listen": "127.0.0.1:99",
        "health.enabled": False,
        "cache.maxBytes": "99Mi",
    }
    paths = list(read_once(json.loads(run(NODENS, "config", "schema"))))
    assert set(others) <= {".".join(path) for path in paths}
    before = named(chart({}), "DaemonSet")["spec"]["template"]["metadata"]
    for path in paths:
        values = others.get(".".join(path), "another")
        for key in reversed(path):
            values = {key: values}
        assert named(chart({"config": values}), "DaemonSet")["spec"]["template"]["metadata"] != before, path


@pytest.mark.parametrize(
    "release, values, name",
    [
        ("dns", {}, "dns-nodens"),
        ("my-nodens", {}, "my-nodens"),
        ("dns", {"nameOverride": "cache"}, "dns-cache"),
        ("dns", {"fullnameOverride": "cache"}, "cache"),
    ],
)
def test_another_name_is_everywhere(release, values, name):
    command = [TOOLS / "helm", "template", release, CHART, "--values", "-"]
    found = support.objects(run(*command, input=yaml.safe_dump(values | {"mode": "cilium"})))
    names = {thing["metadata"]["name"] for thing in found}
    assert names == {name, name + "-test", "kube-dns-upstream"}
    pods = named(found, "DaemonSet")["spec"]
    assert pods["selector"]["matchLabels"] == {"k8s-app": name}
    assert pods["template"]["metadata"]["labels"]["k8s-app"] == name
    assert pods["template"]["spec"]["serviceAccountName"] == name
    assert pods["template"]["spec"]["volumes"][0]["configMap"]["name"] == name
    assert named(found, "Service", name)["spec"]["selector"] == {"k8s-app": name}
    redirect = named(found, "CiliumLocalRedirectPolicy")["spec"]["redirectBackend"]
    assert redirect["localEndpointSelector"]["matchLabels"] == {"k8s-app": name}


def test_the_schema_knows_the_keys_that_there_are():
    """Every value has a default that its schema permits to be replaced, and `config` takes the keys of nodens."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    hints = {key for key, what in schema["properties"].items() if "const" in what}
    assert set(schema["properties"]) - hints - {"global"} == set(yaml.safe_load(text))
    told = {key for key, what in schema["properties"]["config"]["properties"].items() if "const" in what}
    familiar = set(re.findall(r"\w+", "".join(re.findall("^#   ([a-zA-Z, ]+)  ", text, re.MULTILINE))))
    own = set(json.loads(run(NODENS, "config", "schema"))["properties"])
    assert set(schema["properties"]["config"]["properties"]) == own | familiar | told


def test_the_package_is_whole(tmp_path):
    run(TOOLS / "helm", "package", CHART, "--destination", tmp_path)
    package = tmp_path / "nodens-0.1.0.tgz"
    with tarfile.open(package) as files:
        for name in "rules.yaml", "dashboard.json":
            packed = files.extractfile(f"nodens/files/{name}").read()
            assert packed == (DEPLOY / "observability" / name).read_bytes()
    everything = ["--set", ",".join(f"monitoring.{name}.enabled=true" for name in MONITORS)]
    unpacked = run(TOOLS / "helm", "template", "nodens", package, *everything)
    assert unpacked == run(TOOLS / "helm", "template", "nodens", CHART, *everything)


@pytest.mark.parametrize(
    "name, said",
    [
        ("kube-proxy-iptables", "Nothing else has to be done: nodens takes the address of the Service kube-dns"),
        ("kube-proxy-nftables", "Nothing else has to be done: nodens takes the address of the Service kube-dns"),
        ("kube-proxy-ipvs", 'clusterDNS: ["169.254.20.10"]\n'),
        ("link-local-only", 'clusterDNS: ["169.254.20.10"]\n'),
        ("dual-stack by IPVS", 'clusterDNS: ["169.254.20.10", "fd00:169:254:20::10"]\n'),
        ("cilium", "Nothing else has to be done: Cilium hands what pods ask the Service kube-dns"),
    ],
)
def test_notes_name_the_step_that_is_left(name, said):
    command = [TOOLS / "helm", "install", "nodens", CHART, "--namespace", "kube-system", "--dry-run=client"]
    notes = run(*command, "--values", "-", input=yaml.safe_dump(GIVEN[name])).partition("\nNOTES:\n")[2]
    assert said in notes
    assert ("clusterDNS: [" in notes) == ("clusterDNS: [" in said)
    server = "" if name == "cilium" else "@169.254.20.10 "
    assert f"dig {server}+ednsopt=65053 kubernetes.default.svc.cluster.local\n" in notes
    assert "helm test nodens --namespace kube-system\n" in notes
    assert all(len(line) <= 125 for line in notes.splitlines())


def test_the_test_is_a_hook():
    hooks = [thing for thing in chart({}) if "helm.sh/hook" in thing["metadata"].get("annotations", {})]
    assert [hook["kind"] for hook in hooks] == ["Pod"]
    assert hooks[0]["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }


def free_port():
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def demo():
    """A nodens on loopback: its port, that of its upstream, and where it says that it is ready."""
    port, health = free_port(), free_port()
    command = [NODENS, "demo", "--port", port, "--health", f"127.0.0.1:{health}", "--metrics", f"127.0.0.1:{free_port()}"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = process.stdout.readline() + process.stdout.readline()
        yield port, int(re.search(r"is on 127\.0\.0\.1:(\d+)", said)[1]), f"http://127.0.0.1:{health}/ready"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "who, ready, passes, said",
    [
        ("nodens", True, True, "ok: 127.0.0.1 +tcp"),
        ("upstream", True, False, "not answered by nodens, but by another: 127.0.0.1 +notcp"),
        ("nobody", True, False, "no answer: 127.0.0.1 +tcp"),
        ("nodens", False, False, "not ready: "),
    ],
)
def test_what_the_test_runs(demo, who, ready, passes, said):
    """The script of the hook, as it is rendered, against nodens and against others."""
    port, upstream, url = demo
    hook = named(chart({}), "Pod")["spec"]["containers"][0]
    given = {variable["name"]: variable["value"] for variable in hook["env"]}
    given |= {
        "SERVERS": "127.0.0.1",
        "PORT": str({"nodens": port, "upstream": upstream, "nobody": free_port()}[who]),
        "READY": url if ready else f"http://127.0.0.1:{free_port()}/ready",
    }
    done = run(*hook["command"], *hook["args"], check=False, env=os.environ | given)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert said in done.stdout


@pytest.mark.parametrize("values", [{}, {"dualStack": True}], ids=str)
def test_the_test_passes_on_a_node(values, tmp_path):
    """nodens with the chart's configuration, interface and all, and the hook with its own environment."""
    found = chart(values)
    hook = named(found, "Pod")["spec"]["containers"][0]
    with Node(tmp_path) as node:
        node.serve(named(found, "ConfigMap", "nodens")["data"]["nodens.yaml"])
        given = {one["name"]: one["value"].replace("$(KUBE_DNS_SERVICE_HOST)", KUBE_DNS) for one in hook["env"]}
        done = node.run(*hook["command"], *hook["args"], env=given, both=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for address in config(found)["listen"]["addresses"]:
        assert f"ok: {address.replace('kube-dns', KUBE_DNS)} +tcp" in done.stdout

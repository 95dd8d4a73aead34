"""The kustomizations: each overlay makes what it says, is valid for every Kubernetes that is still supported, warns of
nothing, and is safe on a node. What must hold stands in tables, of which every line is a promise.
"""

import ipaddress
import json
import os
import re

import jsonschema
import kubernetes_validate
import pytest
import yaml

import support

LINK_LOCAL = "169.254.20.10"
UNIQUE_LOCAL = "fd00:169:254:20::10"

SERVICES = ["Service kube-dns-upstream", "Service nodens"]
POD_NETWORK = ["ServiceAccount nodens", "ConfigMap nodens", "DaemonSet nodens", *SERVICES]
HOST_NETWORK = [*POD_NETWORK, "Service kube-dns-endpoints"]
REDIRECTED = [*POD_NETWORK, "CiliumLocalRedirectPolicy nodens"]
WATCHED = ["ServiceMonitor nodens", "PrometheusRule nodens", "ConfigMap nodens-dashboard"]

# overlay: where nodens listens, and the objects that there are.
OVERLAYS = {
    "link-local-only":     ([LINK_LOCAL],                           HOST_NETWORK),
    "kube-proxy-ipvs":     ([LINK_LOCAL],                           HOST_NETWORK),
    "kube-proxy-iptables": ([LINK_LOCAL, "kube-dns"],               HOST_NETWORK),
    "kube-proxy-nftables": ([LINK_LOCAL, "kube-dns"],               HOST_NETWORK),
    "dual-stack":          ([LINK_LOCAL, UNIQUE_LOCAL, "kube-dns"], HOST_NETWORK),
    "cilium":              (["$(POD_IPS)"],                         REDIRECTED),
    "prometheus-operator": ([],                                     WATCHED),
}
NODENS = [name for name, (listen, _) in OVERLAYS.items() if listen]
ON_HOST = [name for name in NODENS if name != "cilium"]

DAEMONSET = {
    # field                              in the host's network, and in the pod's own
    "apiVersion":                        "apps/v1",
    "spec.selector":                     {"matchLabels": {"k8s-app": "nodens"}},
    "spec.updateStrategy.type":          "RollingUpdate",
    "spec.updateStrategy.rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    "spec.minReadySeconds":              10,
    "spec.revisionHistoryLimit":         3,
    "spec.template.metadata.labels":     {"k8s-app": "nodens", "app.kubernetes.io/name": "nodens"},
    "spec.template.metadata.annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9253"},
}
DNS_PORTS = [
    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
    {"name": "metrics", "containerPort": 9253, "protocol": "TCP"},
]
UNPRIVILEGED_PORTS = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
POD = {
    # field                              in the host's network           in the pod's own
    "serviceAccountName":                ("nodens",                      "nodens"),
    "automountServiceAccountToken":      (False,                         False),
    "priorityClassName":                 ("system-node-critical",        "system-node-critical"),
    "enableServiceLinks":                (True,                          True),
    "dnsPolicy":                         ("Default",                     "Default"),
    "nodeSelector":                      ({"kubernetes.io/os": "linux"}, {"kubernetes.io/os": "linux"}),
    "tolerations":                       ([{"operator": "Exists"}],      [{"operator": "Exists"}]),
    "terminationGracePeriodSeconds":     (30,                            30),
    "hostNetwork":                       (True,                          None),
    "hostPID":                           (None,                          None),
    "hostIPC":                           (None,                          None),
    "shareProcessNamespace":             (None,                          None),
    "initContainers":                    (None,                          None),
    "securityContext.runAsNonRoot":      (None,                          True),
    "securityContext.runAsUser":         (None,                          65532),
    "securityContext.runAsGroup":        (None,                          65532),
    "securityContext.sysctls":           (None,                          UNPRIVILEGED_PORTS),
}
CONTAINER = {
    # field                                     in the host's network              in the pod's own
    "imagePullPolicy":                          ("IfNotPresent",                   "IfNotPresent"),
    "command":                                  (None,                             None),
    "ports":                                    (None,                             DNS_PORTS),
    "lifecycle":                                (None,                             None),
    "terminationMessagePolicy":                 ("FallbackToLogsOnError",          "FallbackToLogsOnError"),
    "securityContext.privileged":               (None,                             None),
    "securityContext.runAsUser":                (0,                                None),
    "securityContext.allowPrivilegeEscalation": (False,                            False),
    "securityContext.readOnlyRootFilesystem":   (True,                             True),
    "securityContext.capabilities.drop":        (["ALL"],                          ["ALL"]),
    "securityContext.capabilities.add":         (["NET_ADMIN", "NET_BIND_SERVICE"], None),
    "securityContext.seccompProfile":           ({"type": "RuntimeDefault"},       {"type": "RuntimeDefault"}),
    "resources.requests":                       ({"cpu": "25m", "memory": "16Mi"}, {"cpu": "25m", "memory": "16Mi"}),
    "resources.limits":                         ({"memory": "128Mi"},              {"memory": "128Mi"}),
    "startupProbe.periodSeconds":               (1,                                1),
    "startupProbe.failureThreshold":            (60,                               60),
    "readinessProbe.periodSeconds":             (5,                                2),
    "readinessProbe.timeoutSeconds":            (2,                                2),
    "readinessProbe.failureThreshold":          (3,                                1),
    "livenessProbe.periodSeconds":              (10,                               10),
    "livenessProbe.timeoutSeconds":             (5,                                5),
    "livenessProbe.failureThreshold":           (3,                                3),
}
PROBES = {"startupProbe": "/health", "readinessProbe": "/ready", "livenessProbe": "/health"}
MOUNTS = {
    # where                in the host's network       in the pod's own
    "/etc/nodens":         ("configMap nodens",        "configMap nodens"),
    "/var/lib/nodens":     ("hostPath /var/lib/nodens", "emptyDir"),
    "/dev/net":            ("hostPath /dev/net",       None),
}
# Nodes that are none: no pod can have their network. And those of EKS Auto Mode, which have a cache of their own.
NOT_NODES = {"eks.amazonaws.com/compute-type": ["auto", "fargate"], "type": ["virtual-kubelet"]}


def at(thing, path):
    """What stands in `thing` at a path of keys, or None."""
    for key in path.split("."):
        thing = thing.get(key) if thing else None
    return thing


def pod(found):
    return support.named(found, "DaemonSet")["spec"]["template"]["spec"]


def container(found):
    [only] = pod(found)["containers"]
    return only


def config(found):
    """The configuration that the pods read, as text."""
    return support.named(found, "ConfigMap", "nodens")["data"]["nodens.yaml"]


def octets(size):
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", size).groups()
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


def seconds(span):
    return int(re.fullmatch(r"(\d+)s", span).group(1))


def expected(row, overlay):
    return row[0] if overlay in ON_HOST else row[1]


@pytest.fixture(scope="module")
def rendered():
    """The objects of every overlay, by its name."""
    return {name: support.overlay(name) for name in OVERLAYS}


def test_every_overlay_stands_in_the_table():
    assert {folder.name for folder in support.OVERLAYS.iterdir()} == set(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_makes_exactly_its_objects(overlay, rendered):
    found = [f"{thing['kind']} {thing['metadata']['name']}" for thing in rendered[overlay]]
    assert sorted(found) == sorted(OVERLAYS[overlay][1])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay, rendered):
    for thing in rendered[overlay]:
        support.validate(thing)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_says_what_it_belongs_to(overlay, rendered):
    version = re.search(r'^version = "(.+)"$', (support.ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    for thing in rendered[overlay]:
        labels = thing["metadata"]["labels"]
        assert thing["metadata"]["namespace"] == "kube-system"
        assert labels["app.kubernetes.io/name"] == "nodens"
        assert labels["app.kubernetes.io/component"] == "node-local-dns"
        assert labels["app.kubernetes.io/version"] == version
        # A client that applies it notes it in an annotation, and all annotations have room for 256 KiB.
        assert len(json.dumps(thing)) < 250_000
    if overlay in NODENS:
        assert container(rendered[overlay])["image"] == f"nodens:{version}"


@pytest.mark.parametrize("overlay", NODENS)
@pytest.mark.parametrize("field", DAEMONSET)
def test_the_daemonset(field, overlay, rendered):
    assert at(support.named(rendered[overlay], "DaemonSet"), field) == DAEMONSET[field]


@pytest.mark.parametrize("overlay", NODENS)
@pytest.mark.parametrize("field", POD)
def test_the_pod(field, overlay, rendered):
    assert at(pod(rendered[overlay]), field) == expected(POD[field], overlay)


@pytest.mark.parametrize("overlay", NODENS)
@pytest.mark.parametrize("field", CONTAINER)
def test_the_container(field, overlay, rendered):
    assert at(container(rendered[overlay]), field) == expected(CONTAINER[field], overlay)


@pytest.mark.parametrize("overlay", NODENS)
def test_it_runs_on_nodes_alone(overlay, rendered):
    required = at(pod(rendered[overlay]), "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")
    [term] = required["nodeSelectorTerms"]
    rules = term["matchExpressions"]
    assert {rule["key"]: rule["values"] for rule in rules} == NOT_NODES
    assert {rule["operator"] for rule in rules} == {"NotIn"}


@pytest.mark.parametrize("overlay", NODENS)
def test_mounts_are_volumes_and_volumes_are_mounted(overlay, rendered):
    volumes = {volume["name"]: volume for volume in pod(rendered[overlay])["volumes"]}
    mounts = container(rendered[overlay])["volumeMounts"]
    found = {}
    for mount in mounts:
        # The whole directory: a file by subPath would never change.
        assert set(mount) - {"readOnly"} == {"name", "mountPath"}
        volume = volumes.pop(mount["name"])
        if "configMap" in volume:
            found[mount["mountPath"]] = f"configMap {volume['configMap']['name']}"
            assert mount["readOnly"]
        elif "hostPath" in volume:
            found[mount["mountPath"]] = f"hostPath {volume['hostPath']['path']}"
            # What is not there yet is made. A device would be made a directory: so the directory is what is mounted.
            assert volume["hostPath"]["type"] == "DirectoryOrCreate"
        else:
            assert set(volume) == {"name", "emptyDir"}
            found[mount["mountPath"]] = "emptyDir"
    assert found == {path: expected(row, overlay) for path, row in MOUNTS.items() if expected(row, overlay)}
    assert not volumes, "nobody mounts these"


@pytest.mark.parametrize("overlay", NODENS)
def test_what_it_reads_and_writes_is_mounted(overlay, rendered):
    args = container(rendered[overlay])["args"]
    assert args[:3] == ["serve", "--config", "/etc/nodens/nodens.yaml"]
    folder, file = os.path.split(args[2])
    mounts = {mount["mountPath"]: mount for mount in container(rendered[overlay])["volumeMounts"]}
    assert file in support.named(rendered[overlay], "ConfigMap", "nodens")["data"] and folder in mounts
    kept = yaml.safe_load(config(rendered[overlay]))["cache"]["persist"]["path"]
    assert not mounts[os.path.dirname(kept)].get("readOnly")


@pytest.mark.parametrize("overlay", NODENS)
def test_the_configuration_is_good_and_listens_where_it_should(overlay, rendered, tmp_path):
    text = config(rendered[overlay])
    assert support.check_config(text, tmp_path) == f"{tmp_path / 'nodens.yaml'}: ok\n"
    given = yaml.safe_load(text)
    if overlay in ON_HOST:
        assert given["listen"]["addresses"] == OVERLAYS[overlay][0]
        assert "network" not in given, "interface, rules and the fallback are as by default"
        for address in set(given["listen"]["addresses"]) - {"kube-dns"}:
            assert ipaddress.ip_address(address).is_private
    else:
        assert container(rendered[overlay])["args"][3:] == ["--listen", *OVERLAYS[overlay][0]]
        source = {"fieldRef": {"fieldPath": "status.podIPs"}}
        assert container(rendered[overlay])["env"] == [{"name": "POD_IPS", "valueFrom": source}]
        assert given["network"] == {"interface": {"manage": False}, "firewall": "none"}


@pytest.mark.parametrize("overlay", NODENS)
def test_probes_go_where_health_is(overlay, rendered):
    given = yaml.safe_load(config(rendered[overlay]))
    assert not {"listen", "enabled"} & set(given.get("health", {})), "it is on the first listen address, port 8080"
    for probe, path in PROBES.items():
        asked = container(rendered[overlay])[probe]["httpGet"]
        if overlay in ON_HOST:
            assert asked == {"host": given["listen"]["addresses"][0], "port": 8080, "path": path}
        else:
            assert asked == {"port": 8080, "path": path}, "the kubelet takes the pod's address, which is where it listens"


@pytest.mark.parametrize("overlay", NODENS)
def test_the_memory_limit_leaves_room_beside_the_cache(overlay, rendered):
    defaults = yaml.safe_load((support.ROOT / "config" / "nodens.yaml").read_text())
    answers = yaml.safe_load(config(rendered[overlay]))["cache"].get("maxBytes", defaults["cache"]["maxBytes"])
    assert octets(container(rendered[overlay])["resources"]["limits"]["memory"]) >= octets(answers) + octets("48Mi")


@pytest.mark.parametrize("overlay", NODENS)
def test_a_stop_has_the_time_that_it_may_take(overlay, rendered):
    lame_duck = seconds(yaml.safe_load(config(rendered[overlay])).get("health", {}).get("lameDuck", "0s"))
    successor = 10 if overlay in ON_HOST else 0
    assert pod(rendered[overlay])["terminationGracePeriodSeconds"] >= lame_duck + successor + 7
    if overlay not in ON_HOST:
        # /ready has fallen, the kubelet has noticed, and there is a second left for Cilium.
        probe = container(rendered[overlay])["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        assert lame_duck >= noticed + 1


def test_what_an_upgrade_must_not_change_is_the_same_everywhere(rendered):
    assert len({json.dumps(support.named(rendered[name], "DaemonSet")["spec"]["selector"]) for name in NODENS}) == 1
    first, *others = (support.named(rendered[name], "DaemonSet") for name in ON_HOST)
    assert all(other == first for other in others), "only the configuration differs in the host's network"


def test_overlays_that_are_the_same_are_the_same(rendered):
    assert rendered["link-local-only"] == rendered["kube-proxy-ipvs"]
    assert rendered["kube-proxy-iptables"] == rendered["kube-proxy-nftables"]
    assert rendered["link-local-only"] == support.kustomization(support.OVERLAYS.parent / "base")


@pytest.mark.parametrize("overlay", NODENS)
def test_services(overlay, rendered):
    two = overlay == "dual-stack"
    services = {thing["metadata"]["name"]: thing["spec"] for thing in rendered[overlay] if thing["kind"] == "Service"}
    for name in set(services) - {"nodens"}:
        service = services[name]
        assert service["selector"] == {"k8s-app": "kube-dns"}
        assert {(p["name"], p["port"], p["targetPort"], p["protocol"]) for p in service["ports"]} == {
            ("dns", 53, 53, "UDP"),
            ("dns-tcp", 53, 53, "TCP"),
        }
        assert service.get("ipFamilyPolicy") == ("PreferDualStack" if two else None)
        assert not service.get("publishNotReadyAddresses"), "a kube-dns that is not ready answers for nobody"
        assert service.get("clusterIP") == ("None" if name == "kube-dns-endpoints" else None)
    metrics = services["nodens"]
    labels = support.named(rendered[overlay], "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert metrics["selector"].items() <= labels.items()
    assert metrics["clusterIP"] == "None" and [p["port"] for p in metrics["ports"]] == [9253]
    assert "ipFamilyPolicy" not in metrics, "every instance would be found twice"


def test_the_second_family_has_an_address_and_metrics(rendered):
    given = yaml.safe_load(config(rendered["dual-stack"]))
    versions = [ipaddress.ip_address(address).version for address in given["listen"]["addresses"][:2]]
    assert versions == [4, 6]
    assert given["metrics"] == {"listen": ["[::]:9253"]}


def test_the_account_has_no_token(rendered):
    for name in NODENS:
        account = support.named(rendered[name], "ServiceAccount")
        assert account["automountServiceAccountToken"] is False
        assert not {"secrets", "imagePullSecrets"} & set(account)


def test_cilium_redirects_to_ports_that_the_pod_has(rendered):
    found = rendered["cilium"]
    spec = support.named(found, "CiliumLocalRedirectPolicy")["spec"]
    assert spec["redirectFrontend"] == {"serviceMatcher": {"serviceName": "kube-dns", "namespace": "kube-system"}}
    backend = spec["redirectBackend"]
    labels = support.named(found, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert backend["localEndpointSelector"]["matchLabels"].items() <= labels.items()
    ports = {(port["name"], port["containerPort"], port["protocol"]) for port in container(found)["ports"]}
    redirected = {(port["name"], int(port["port"]), port["protocol"]) for port in backend["toPorts"]}
    # Cilium finds them by the names that the Service kube-dns gives them.
    assert redirected == {("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")}
    assert redirected <= ports


def test_prometheus_finds_the_metrics_and_nothing_else(rendered):
    monitor = support.named(rendered["prometheus-operator"], "ServiceMonitor")["spec"]
    assert set(monitor["selector"]) == {"matchLabels"}
    for name in NODENS:
        services = [thing for thing in rendered[name] if thing["kind"] == "Service"]
        fitting = [s for s in services if monitor["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()]
        assert [service["metadata"]["name"] for service in fitting] == ["nodens"]
        ports = {port["name"] for port in fitting[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["endpoints"]} == ports
        assert not set(OVERLAYS[name][1]) & set(WATCHED), "they are applied beside each other"


@pytest.mark.parametrize("overlay", NODENS)
def test_an_overlay_is_used_as_it_is_but_for_the_image(overlay, rendered, tmp_path):
    folder = os.path.relpath(support.OVERLAYS / overlay, tmp_path.resolve())
    image = {"name": "nodens", "newName": "registry.example:5000/dns/nodens", "newTag": "0.1.0-1"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [folder], "images": [image]}))
    own = support.kustomization(tmp_path)
    assert container(own)["image"] == "registry.example:5000/dns/nodens:0.1.0-1"
    container(own)["image"] = container(rendered[overlay])["image"]
    assert own == rendered[overlay]


def test_a_warning_of_kustomize_is_a_failure(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("commonLabels: { a: b }\n")
    with pytest.raises(AssertionError, match="commonLabels"):
        support.kustomization(tmp_path)


def refused(thing):
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        support.validate(thing)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_unknown_field_is_refused(overlay, rendered):
    for thing in rendered[overlay]:
        refused({**thing, "unheardOf": 1})
        if "spec" in thing:
            refused({**thing, "spec": {**thing["spec"], "unheardOf": 1}})


def test_an_unknown_field_is_refused_however_deep_it_is():
    misspelt = support.overlay("link-local-only")
    container(misspelt)["securityContext"]["readOnlyRootFileSystem"] = True
    refused(support.named(misspelt, "DaemonSet"))
    redirected = support.overlay("cilium")
    policy = support.named(redirected, "CiliumLocalRedirectPolicy")
    policy["spec"]["redirectBackend"]["toPorts"][0]["number"] = 53
    refused(policy)


def test_schemas_of_custom_resources_are_closed_and_whole():
    """Every object that names its fields has no others, and everything that is referred to is there."""
    for name in support.custom():
        schema = support.custom().contents(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        resolver = support.custom().resolver(base_uri=name)
        pending = [schema]
        while pending:
            part = pending.pop()
            if isinstance(part, dict):
                if part.get("type") == "object" and "properties" in part:
                    assert part["additionalProperties"] is False, f"{name}: {sorted(part['properties'])}"
                if isinstance(part.get("$ref"), str):
                    resolver.lookup(part["$ref"])
                pending.extend(part.values())
            elif isinstance(part, list):
                pending.extend(part)

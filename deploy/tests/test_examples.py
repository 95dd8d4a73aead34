"""The examples: held against schemas and against the manifests they go with, and run where they can be run.

Configurations are read by `nodens check`; scripts, and configurations that claim to do something, do it on a node of their
own.
"""

import os
import re
import stat
import tomllib

import jsonschema
import pytest
import yaml

import support
from node import KUBE_DNS, Node
from support import DEPLOY, ROOT, objects

EXAMPLES = DEPLOY / "examples"
POLICIES = EXAMPLES / "network-policies"
LINK_LOCAL = "169.254.20.10"

# Kinds that are no objects of a cluster's API, as much of them as an example may say.
ADDRESS = {"enum": [LINK_LOCAL]}
LIST = {"type": "array", "items": ADDRESS, "minItems": 1, "maxItems": 1}
NODE_KINDS = {
    ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"): {
        "clusterDNS": LIST, "clusterDomain": {"const": "cluster.local"},
    },
    ("kubeadm.k8s.io/v1beta4", "ClusterConfiguration"): {
        "networking": {
            "type": "object", "additionalProperties": False,
            "properties": {"dnsDomain": {"const": "cluster.local"}, "serviceSubnet": {"type": "string"}},
        },
    },
    ("node.eks.aws/v1alpha1", "NodeConfig"): {
        "spec": {"const": {"kubelet": {"config": {"clusterDNS": [LINK_LOCAL]}}}},
    },
    ("eksctl.io/v1alpha5", "ClusterConfig"): {
        "metadata": {"type": "object"}, "nodeGroups": {"type": "array"}, "managedNodeGroups": {"type": "array"},
    },
    ("kustomize.config.k8s.io/v1beta1", "Kustomization"): {
        "resources": {"type": "array"}, "patches": {"type": "array"}, "images": {"type": "array"},
    },
}


def files(pattern):
    """The example files of that form, by their names within examples/."""
    found = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob(pattern))
    assert found
    return found


def read(name):
    """The objects of an example."""
    return objects((EXAMPLES / name).read_text())


def hold_against_schema(thing):
    """Fails unless the thing is what its kind may be."""
    properties = NODE_KINDS.get((thing["apiVersion"], thing["kind"]))
    if properties is None:
        support.validate(thing)
    else:
        heads = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        jsonschema.validate(thing, {"additionalProperties": False, "properties": {**heads, **properties}})


def configurations():
    """Every ConfigMap with a nodens.yaml, by the file it is in."""
    return {
        name: thing["data"]["nodens.yaml"]
        for name in files("*.yaml")
        for thing in read(name)
        if thing["kind"] == "ConfigMap" and "nodens.yaml" in thing["data"]
    }


def configuration_of(overlay):
    """What nodens is told by an overlay."""
    return yaml.safe_load(support.named(support.overlay(overlay), "ConfigMap", "nodens")["data"]["nodens.yaml"])


@pytest.mark.parametrize("name", files("*.yaml"))
def test_an_example_is_what_its_kind_may_be(name):
    found = read(name)
    assert found
    for thing in found:
        hold_against_schema(thing)


def test_schemas_refuse_what_is_unknown():
    for text in (EXAMPLES / "kubelet/kubelet-config.yaml", POLICIES / "pods.yaml", POLICIES / "cilium-redirected.yaml"):
        thing = objects(text.read_text())[0]
        thing.setdefault("spec", {})["nonsense"] = True
        with pytest.raises(Exception, match="nonsense|spec"):
            hold_against_schema(thing)


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_configuration_is_good(path, tmp_path):
    assert support.check_config(path.read_text(), tmp_path).endswith(": ok\n")


@pytest.mark.parametrize("name", sorted(configurations()))
def test_a_configuration_in_a_config_map_is_good(name, tmp_path):
    assert support.check_config(configurations()[name], tmp_path).endswith(": ok\n")


@pytest.mark.parametrize("name", sorted(configurations()))
def test_a_configuration_in_a_config_map_differs_from_the_overlay_in_its_zones_alone(name):
    overlay = configuration_of("kube-proxy-iptables")
    own = yaml.safe_load(configurations()[name])
    assert own.pop("zones")
    overlay.pop("zones", None)
    assert own == overlay


@pytest.mark.parametrize("name", ["eks.yaml", "kubeadm.yaml", "cilium.yaml"])
def test_configurations_for_a_cluster_listen_and_persist_as_its_overlay_does(name):
    overlay = "cilium" if name == "cilium.yaml" else "kube-proxy-iptables"
    shipped = yaml.safe_load((ROOT / "config/examples" / name).read_text())
    theirs = configuration_of(overlay)
    for key in ("listen", "network"):
        assert shipped.get(key) == theirs.get(key), key
    assert shipped["cache"]["persist"] == theirs["cache"]["persist"]


def test_the_overlay_takes_the_example_in_the_place_of_its_configuration():
    theirs = support.overlay("kube-proxy-iptables")
    ours = objects(support.run(support.TOOLS / "kubectl", "kustomize", EXAMPLES / "split-dns"))
    config = support.named(ours, "ConfigMap", "nodens")
    assert config["data"] == {"nodens.yaml": configurations()["split-dns/corporate.yaml"]}
    rest = [thing for thing in ours if thing["kind"] != "ConfigMap"]
    assert rest == [thing for thing in theirs if thing["kind"] != "ConfigMap"]
    assert config["metadata"] == support.named(theirs, "ConfigMap", "nodens")["metadata"]


# Kubelets.


def test_every_kubelet_is_pointed_at_the_address_of_the_manifests():
    assert configuration_of("link-local-only")["listen"]["addresses"] == [LINK_LOCAL]
    for name in ("kubelet-config.yaml", "kubeadm-config.yaml"):
        said = [thing["clusterDNS"] for thing in read(f"kubelet/{name}") if thing["kind"] == "KubeletConfiguration"]
        assert said == [[LINK_LOCAL]]
    assert read("kubelet/eks-nodeadm.yaml")[0]["spec"]["kubelet"]["config"]["clusterDNS"] == [LINK_LOCAL]
    assert read("kubelet/eks-karpenter.yaml")[0]["spec"]["kubelet"]["clusterDNS"] == [LINK_LOCAL]
    eksctl = read("kubelet/eks-eksctl.yaml")[0]
    assert [group["clusterDNS"] for group in eksctl["nodeGroups"]] == [LINK_LOCAL]
    for group in eksctl["managedNodeGroups"]:
        assert objects(group["overrideBootstrapCommand"]) == read("kubelet/eks-nodeadm.yaml")
    bottlerocket = tomllib.loads((EXAMPLES / "kubelet/eks-bottlerocket.toml").read_text())
    assert bottlerocket == {"settings": {"kubernetes": {"cluster-dns-ip": LINK_LOCAL}}}


KUBELET_CONFIG = """{
    "apiVersion": "v1",
    "data": {
        "kubelet": "cgroupDriver: systemd\\nclusterDNS:\\n- 10.96.0.10\\n- fd00::a\\nclusterDomain: cluster.local\\n"
    },
    "kind": "ConfigMap",
    "metadata": { "name": "kubelet-config", "namespace": "kube-system" }
}
"""


@pytest.mark.parametrize("address", [None, "10.96.0.10"])
def test_a_running_kubeadm_cluster_is_led_over_node_by_node(address, tmp_path):
    calls = tmp_path / "calls"
    fake(tmp_path / "kubectl", f"""
        case "$*" in
        "-n kube-system get configmap kubelet-config -o json") cat <<'END'\n{KUBELET_CONFIG}END\n;;
        "replace -f -") cat >"{tmp_path}/replaced" ;;
        "get nodes"*) printf 'one two' ;;
        "wait "*) echo "wait $4" >>"{calls}" ;;
        *) exit 9 ;;
        esac""")
    fake(tmp_path / "ssh", f'echo "$1 $2" >>"{calls}"')
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    support.run(EXAMPLES / "kubelet/kubeadm-roll-out", *([address] if address else []), env=environment)
    replaced = yaml.safe_load((tmp_path / "replaced").read_text())
    was = yaml.safe_load(yaml.safe_load(KUBELET_CONFIG)["data"]["kubelet"])
    assert yaml.safe_load(replaced["data"]["kubelet"]) == {**was, "clusterDNS": [address or LINK_LOCAL]}
    said = calls.read_text().splitlines()
    assert [line.split()[0] for line in said] == ["one", "wait", "two", "wait"]
    assert all("kubeadm upgrade node phase kubelet-config && sudo systemctl restart kubelet" in line for line in said[::2])


def fake(path, script):
    """A program of that name."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# Network policies.


def addresses_and_port():
    """Where nodens listens by the overlay that takes the Service's address, and the port."""
    listen = configuration_of("kube-proxy-iptables")["listen"]
    return [KUBE_DNS if address == "kube-dns" else address for address in listen["addresses"]], listen.get("port", 53)


def upstream_selector():
    """How the manifests select the kube-dns pods."""
    return support.named(support.overlay("kube-proxy-iptables"), "Service", "kube-dns-endpoints")["spec"]["selector"]


def test_pods_may_ask_every_address_of_nodens_and_whoever_stands_in_for_it():
    addresses, port = addresses_and_port()
    (rule,) = read("network-policies/pods.yaml")[0]["spec"]["egress"]
    blocks = {target["ipBlock"]["cidr"] for target in rule["to"] if "ipBlock" in target}
    assert blocks == {f"{address}/32" for address in addresses}
    (pods,) = [target for target in rule["to"] if "podSelector" in target]
    assert pods["podSelector"]["matchLabels"] == upstream_selector()
    assert pods["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert rule["ports"] == [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def test_kube_dns_may_be_asked_by_nodes_and_by_pods():
    spec = read("network-policies/kube-dns.yaml")[0]["spec"]
    assert spec["podSelector"]["matchLabels"] == upstream_selector()
    rule = spec["ingress"][0]
    assert {key for source in rule["from"] for key in source} == {"ipBlock", "namespaceSelector"}
    assert rule["ports"] == [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]


def labels(selector):
    """The labels that a selector of Cilium's asks for, without its prefix."""
    return {key.removeprefix("k8s:"): value for key, value in selector["matchLabels"].items()}


def labels_of(target):
    """The same without the namespace, which has to be ours."""
    found = labels(target)
    assert found.pop("io.kubernetes.pod.namespace") == "kube-system"
    return found


@pytest.mark.parametrize("name", ["cilium-redirected.yaml", "cilium-host-network.yaml"])
def test_cilium_permits_dns_denies_nothing_and_sees_all_that_pods_ask(name):
    found = read(f"network-policies/{name}")
    for policy in found:
        assert policy["spec"]["enableDefaultDeny"] == {"ingress": False, "egress": False}
    pods = support.named(found, "CiliumClusterwideNetworkPolicy")["spec"]["egress"]
    for rule in pods:
        (to,) = rule["toPorts"]
        assert to == {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}
    assert upstream_selector() in [labels_of(target) for rule in pods for target in rule.get("toEndpoints", [])]
    asked = support.named(found, "CiliumNetworkPolicy", "kube-dns-is-asked")["spec"]
    assert labels(asked["endpointSelector"]) == upstream_selector()


def test_cilium_knows_the_redirected_pods_by_their_labels_and_lets_them_ask():
    cilium = support.overlay("cilium")
    selector = support.named(cilium, "DaemonSet", "nodens")["spec"]["selector"]["matchLabels"]
    found = read("network-policies/cilium-redirected.yaml")
    pods = support.named(found, "CiliumClusterwideNetworkPolicy")["spec"]["egress"]
    assert selector in [labels_of(target) for rule in pods for target in rule["toEndpoints"]]
    own = support.named(found, "CiliumNetworkPolicy", "nodens")["spec"]
    assert labels(own["endpointSelector"]) == selector
    container = support.named(cilium, "DaemonSet", "nodens")["spec"]["template"]["spec"]["containers"][0]
    needed = {str(port["containerPort"]) for port in container["ports"]} | {"8080"}
    assert {port["port"] for port in own["ingress"][0]["toPorts"][0]["ports"]} == needed
    assert upstream_selector() in [labels_of(target) for rule in own["egress"] for target in rule.get("toEndpoints", [])]


def test_cilium_lets_pods_ask_the_addresses_of_the_node():
    found = read("network-policies/cilium-host-network.yaml")
    rules = support.named(found, "CiliumClusterwideNetworkPolicy")["spec"]["egress"]
    assert ["host"] in [rule.get("toEntities") for rule in rules]
    addresses, _ = addresses_and_port()
    assert [f"{address}/32" for address in addresses] in [rule.get("toCIDR") for rule in rules]


# What runs on nodes.


def test_the_pods_that_look_have_no_privilege_and_need_no_scheduler():
    found = read("node-debug.yaml")
    pods = {thing["metadata"]["name"]: thing["spec"] for thing in found if thing["kind"] == "Pod"}
    assert set(pods) == {"nodens-debug", "nodens-debug-host"}
    for spec in pods.values():
        assert spec["nodeName"] == "NODE"
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert spec["volumes"] == [{"name": "debug", "configMap": {"name": "nodens-debug"}}]
    one, host = pods["nodens-debug"], pods["nodens-debug-host"]
    assert (one.pop("dnsPolicy"), host.pop("dnsPolicy"), host.pop("hostNetwork")) == ("ClusterFirst", "Default", True)
    assert one == host, "but for the network they are the same"


def test_the_cleaner_goes_wherever_nodens_was_with_less_than_it_had():
    nodens = support.named(support.overlay("kube-proxy-iptables"), "DaemonSet", "nodens")["spec"]["template"]["spec"]
    cleaner = read("cleanup.yaml")[0]["spec"]["template"]["spec"]
    for key in ("nodeSelector", "tolerations", "affinity", "hostNetwork", "dnsPolicy", "priorityClassName"):
        assert cleaner[key] == nodens[key], key
    (first,) = cleaner["initContainers"]
    theirs = nodens["containers"][0]
    assert (first["image"], first["args"]) == (theirs["image"], ["cleanup"])
    mine, its = first["securityContext"], theirs["securityContext"]
    assert set(mine.pop("capabilities")["add"]) < set(its["capabilities"]["add"])
    assert mine == {key: value for key, value in its.items() if key != "capabilities"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node where nodens serves the other cluster, too, and knows whom to fail over to."""
    with Node(tmp_path_factory.mktemp("node")) as node:
        own = configurations()["split-dns/other-cluster.yaml"]
        assert own.count("to: [10.2.0.53]") == 1
        own = own.replace("to: [10.2.0.53]", "to: [127.0.0.1]")
        node.serve(own + "network: { failOpen: { endpoints: 10.244.0.3 } }\n")
        yield node


def test_names_of_the_other_cluster_are_those_of_its_own(node):
    def ask(name, rtype):
        return node.run("dig", "@169.254.20.10", name, rtype, "+noall", "+answer", "+time=5").split()

    assert ask("web.shop.svc.cluster2.global", "A") == ["web.shop.svc.cluster2.global.", "30", "IN", "A", "10.96.14.20"]
    assert ask("web.shop.svc.cluster.local", "A")[-1] == "10.96.14.20"
    srv = ask("_http._tcp.web.shop.svc.cluster2.global", "SRV")
    assert (srv[0], srv[-1]) == ("_http._tcp.web.shop.svc.cluster2.global.", "web.shop.svc.cluster2.global.")


def test_the_look_from_a_node_says_who_answers(node):
    script = support.named(read("node-debug.yaml"), "ConfigMap", "nodens-debug")["data"]["look"]
    file = node.folder / "look"
    file.write_text(script)
    node.run("sh", file)
    done = node.run("sh", file, both=True)
    said = done.stdout
    assert done.stderr == ""
    for asked, address in (("link-local", LINK_LOCAL), ("Service kube-dns", KUBE_DNS)):
        for proto in ("udp", "tcp"):
            line = rf"^{asked} +{address} +{proto} +NOERROR +\d+ ms +nodens: source=hit zone=cluster.local\."
            assert re.search(line, said, re.M), said
    assert re.search(r"^kube-dns-upstream +127.0.0.1 +udp +NOERROR", said, re.M), said
    assert "nameserver 169.254.20.10" in said
    assert re.search(r"^kubernetes.default.svc.cluster.local\. \d+ IN A", said.replace("\t", " "), re.M), said
    assert re.search(r"^ready\nok +udp 169.254.20.10:53", said, re.M), said
    assert re.search(r"^nodens_cache_hits_total.* [1-9]", said, re.M), said


def test_the_look_from_a_node_says_who_does_not_answer(node):
    file = node.folder / "look"
    file.write_text(support.named(read("node-debug.yaml"), "ConfigMap", "nodens-debug")["data"]["look"])
    nobody = {"LINK_LOCAL": "127.0.0.9", "KUBE_DNS_SERVICE_HOST": "", "HEALTH": "127.0.0.9:1", "METRICS": "127.0.0.9:1"}
    said = node.run("sh", file, env=nobody)
    assert re.search(r"^link-local +127.0.0.9 +tcp +NO ANSWER", said, re.M), said
    assert re.search(r"^Service kube-dns +not known here", said, re.M), said


def test_the_cleaner_refuses_while_nodens_runs_and_leaves_nothing_afterwards(node):
    (container,) = read("cleanup.yaml")[0]["spec"]["template"]["spec"]["initContainers"]
    clean = [support.NODENS, *container["args"]]
    done = node.run(*clean, both=True)
    assert done.returncode == 1 and "an instance of nodens runs here" in done.stderr
    node.kill()
    assert "10.244.0.3" in node.run(support.NODENS, "network", "status"), "the fallback stays"
    assert "removed: " in node.run(*clean, check=True)
    assert "nothing of it on this host" in node.run(support.NODENS, "network", "status")

"""What deploy/README.md says: links, commands, names of alerts, metrics, keys and messages are held against what there is.

Every line of a `sh` fence has somebody who runs it, as far as it can be run without a cluster; one that nobody knows fails.
"""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

import support
from node import Node
from support import CHART, DEPLOY, NODENS, ROOT, TOOLS, objects
from test_examples import hold_against_schema

README = (DEPLOY / "README.md").read_text()
# The prose around it, as far as it is there.
PAGES = [
    page
    for page in (DEPLOY / "README.md", DEPLOY / "MIGRATING.md", DEPLOY / "cdk/README.md", CHART / "README.md")
    if page.exists()
]
# A file of node-cache's own, which is not here.
THEIRS = {"nodelocaldns.yaml"}


def fences(text, language):
    """The contents of all fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def without_fences(text):
    """The prose."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def section(heading):
    """The part of the README below a heading that begins so."""
    (text,) = re.findall(rf"^## {heading}.*?\n(.*?)(?=^## )", README, re.M | re.S)
    return text


def commands():
    """The commands of all `sh` fences, with what is continued on the next line in one."""
    return [
        line for fence in fences(README, "sh") for line in re.sub(r"\\\n\s*", "", fence).splitlines() if line.strip()
    ]


def anchors(text):
    """What GitHub makes of the headings."""
    heads = re.findall(r"^#+ (.*)$", without_fences(text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DEPLOY)))
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_fences(page.read_text()))
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", PAGES[:1] + sorted((DEPLOY / "examples").rglob("*.*")), ids=lambda page: page.name)
def test_every_path_that_is_written_is_there(page):
    for path in re.findall(r"\b(?:deploy|config)/[\w./-]*\w", page.read_text()):
        assert (ROOT / path).exists(), path


def test_alerts_are_those_of_the_rules():
    rules = yaml.safe_load((DEPLOY / "observability/rules.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    there = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts}
    told = re.findall(r"^\| `(Nodens\w+)` \| (\w+) \|", README, re.M)
    assert set(told) == there
    assert len(told) == len(there), "each once"
    assert set(re.findall(r"`(Nodens[A-Z]\w+)`", README)) <= {name for name, _ in there}


def test_the_modes_are_the_overlays_and_those_of_the_chart():
    told = set(re.findall(r"^\|[^|]*\| `([\w-]+)`(?: \(chart: `\w+: true`\))? \|", section("Choose"), re.M))
    overlays = {path.name for path in support.OVERLAYS.iterdir()}
    assert told == overlays - {"prometheus-operator"}
    for mode in told - {"dual-stack"}:
        assert support.chart("--set", f"mode={mode}")
    assert support.chart("--set", "dualStack=true")


def test_versions_are_those_that_are_tested():
    assert f"Kubernetes {support.VERSIONS[0]} to {support.VERSIONS[-1]}" in " ".join(README.split())


def test_messages_are_those_of_the_program():
    cells = [cell for row in section("By symptom").splitlines() if row.startswith("| ") for cell in row.split("|")]
    said = [re.split(r"log:|ends with", cell, maxsplit=1)[1] for cell in cells if re.search("log:|ends with", cell)]
    told = [message for cell in said for message in re.findall(r"`([^`]+)`", cell) if " " in message]
    assert len(told) >= 15
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    source = re.sub(r"\\\n\s*", "", source)
    # What the program fills in is left out: addresses, names, transports and constants.
    names = {
        "KUBE_DNS_UPSTREAM_SERVICE_HOST is not set": "{KUBE_DNS} is {0}", "KUBE_DNS_SERVICE_HOST": "{}",
        "169.254.20.10:53 (udp)": "{address} ({proto})", "0.0.0.0:9253": "{address}", "/dev/net/tun": "{DEVICE}",
    }
    for message in told:
        for said, written in names.items():
            message = message.replace(said, written)
        for part in message.split("…"):
            assert part.strip(" :") in source, message


def test_keys_are_those_of_the_configuration():
    schema = json.loads(support.run(NODENS, "config", "schema"))

    def names(part, path=()):
        """The paths of all keys."""
        for key, value in part.get("properties", {}).items():
            yield (*path, key)
            yield from names(resolved(value), (*path, key))

    def resolved(part):
        while "$ref" in part:
            part = schema["$defs" if "$defs" in schema else "definitions"][part["$ref"].rsplit("/", 1)[1]]
        for several in ("anyOf", "allOf", "oneOf"):
            for one in part.get(several, []):
                if one.get("type") != "null":
                    return resolved(one)
        return resolved(part["items"]) if part.get("items") else part

    known = {".".join(path) for path in names(schema)}
    tops = {path.split(".")[0] for path in known}
    told = set()
    for code in re.findall(r"`([^`]+)`", without_fences(README)):
        key = code.split(":")[0]
        if re.fullmatch(r"[a-zA-Z]+(\.[a-zA-Z]+)+", key):
            told.add(key)
    told = {key for key in told if key.split(".")[0] in tops | {"serveStale", "forward"}}
    assert len(told) >= 6
    for key in told:
        assert any(path == key or path.endswith(f".{key}") for path in known), key


def test_what_is_written_in_yaml_is_good(tmp_path):
    for number, text in enumerate(fences(README, "yaml")):
        for thing in objects(text):
            if "apiVersion" not in thing:
                assert support.check_config(text, tmp_path, f"{number}.yaml")
                continue
            hold_against_schema(thing)
            if thing["kind"] == "Kustomization":
                # Where the README stands on is the root.
                thing["resources"] = [os.path.relpath(ROOT / path, tmp_path) for path in thing["resources"]]
                (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(thing))
                made = objects(support.run(TOOLS / "kubectl", "kustomize", tmp_path))
                image = support.named(made, "DaemonSet", "nodens")["spec"]["template"]["spec"]["containers"][0]["image"]
                assert image == f"{thing['images'][0]['newName']}:{thing['images'][0]['newTag']}"


def test_the_construct_takes_what_is_written():
    (text,) = fences(README, "ts")
    source = "\n".join(path.read_text() for path in (DEPLOY / "cdk/src").rglob("*.ts"))
    name, body = re.search(r"new (\w+)\(this, '\w+', \{(.*)\}\);", text).groups()
    assert re.search(rf"export class {name}\b", source)
    for prop in re.findall(r"(?:^|,) (\w+)", body):
        assert re.search(rf"^\s+readonly {prop}\??:", source, re.M), prop


# Commands.


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node where nodens runs as an overlay has it, and knows whom to fail over to."""
    with Node(tmp_path_factory.mktemp("node")) as node:
        config = support.named(support.overlay("kube-proxy-iptables"), "ConfigMap", "nodens")["data"]["nodens.yaml"]
        node.serve(config + "network: { failOpen: { endpoints: 10.244.0.3 } }\n")
        yield node


def here(words):
    """A program of this folder: it is there, and its shell understands it."""
    support.run("bash", "-n", ROOT / words[0])
    assert os.access(ROOT / words[0], os.X_OK)


def flags_are_known(words, *texts):
    """Every option stands in what the program says of itself."""
    said = "\n".join(texts)
    for word in words:
        if word.startswith("-"):
            flag = re.escape(word.split("=")[0])
            assert re.search(rf"(?:^|[\s,]){flag}(?:[=\s,\[]|$)", said, re.M), f"{word} in {' '.join(words)}"


def kubectl_knows(words, plain):
    """Command and options are kubectl's; gives the command. `plain` is without the namespace."""
    verb = plain[:2] if plain[0] in ("rollout", "set") else plain[:1]
    said = support.run(TOOLS / "kubectl", *verb, "--help")
    assert re.search(rf"^Usage:\n  kubectl {' '.join(verb)} ", said, re.M), f"no command {' '.join(verb)}"
    flags_are_known(words, said, support.run(TOOLS / "kubectl", "options"))
    return verb


def kubectl(words, node):
    """The options are kubectl's; folders are rendered, files read, objects found, and what a pod shall do is done."""
    inside = words[words.index("--") + 1 :] if "--" in words else []
    words = words[1 : words.index("--")] if "--" in words else words[1:]
    plain = [word for i, word in enumerate(words) if word != "-n" and words[i - 1] != "-n"]
    verb = kubectl_knows(words, plain)

    for option, path in zip(words, words[1:]):
        if option == "-k":
            assert objects(support.run(TOOLS / "kubectl", "kustomize", ROOT / path))
        if option == "-f" and path not in THEIRS:
            for thing in objects((ROOT / path).read_text()):
                hold_against_schema(thing)
    there = {("daemonset", "nodens"), ("daemonset", "nodens-cleanup"), ("pod", "nodens-debug"), ("pod", "nodens-debug-host")}
    for word in plain[1:]:
        if word.startswith(("daemonset/", "pod/")):
            assert tuple(word.split("/")) in there, word
    if plain[:3] == ["set", "image", "daemonset/nodens"]:
        container = plain[3].split("=")[0]
        spec = support.named(support.overlay("kube-proxy-iptables"), "DaemonSet", "nodens")["spec"]["template"]["spec"]
        assert container in [one["name"] for one in spec["containers"]]
    if verb == ["exec"]:
        assert (plain[1].split("/") if "/" in plain[1] else ["pod", plain[1]]) in [list(one) for one in there]
        do_inside(plain[1], inside, node)


def do_inside(where, words, node):
    """What is done in a pod, done on the node: in that of nodens nodens alone can be."""
    if where == "daemonset/nodens":
        assert words[0] == "/nodens"
        assert node.run(NODENS, *words[1:], check=True)
        return
    look = node.folder / "look"
    debug = objects((DEPLOY / "examples/node-debug.yaml").read_text())
    look.write_text(support.named(debug, "ConfigMap", "nodens-debug")["data"]["look"])
    words = [str(look) if word == "/debug/look" else word for word in words]
    if "while" in words[-1]:
        said = node.run("timeout", "2", *words)
        assert len(re.findall(r"^10\.96\.0\.1$", said, re.M)) >= 3, said
    else:
        assert node.run(*words, check=words[-1] != str(look)).strip()


def helm(words, _):
    """Rendered as it would be installed; a test is one that the chart has."""
    words = words[1:]
    flags_are_known(words, support.run(TOOLS / "helm", words[0], "--help"))
    if words[0] == "upgrade":
        rest = [str(ROOT / word) if word.startswith("deploy/") else word for word in words[1:] if word != "--install"]
        made = objects(support.run(TOOLS / "helm", "template", *rest))
        image = support.named(made, "DaemonSet", "nodens")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.startswith("registry.example/nodens:")
    else:
        assert words[:2] == ["test", "nodens"]
        hooks = support.run(TOOLS / "helm", "template", "nodens", CHART, "--namespace", "kube-system")
        assert "helm.sh/hook: test" in hooks.replace('"', "")


def podman(words, _):
    """Its options are known where it is installed; nodens knows the command that it is given in the image."""
    if shutil.which("podman"):
        flags_are_known(words[2:], support.run("podman", words[1], "--help"))
    if words[1] == "run":
        image = words.index("nodens:0.1.0")
        support.run(NODENS, *words[image + 1 :], "--help")


def nodens(words, _):
    """As it is written."""
    support.run(NODENS, *words[1:], cwd=ROOT)


RUNNERS = {
    "deploy/build-image": lambda words, _: here(words),
    "deploy/check": lambda words, _: here(words),
    "kubectl": kubectl,
    "helm": helm,
    "podman": podman,
    "nodens": nodens,
}


@pytest.mark.parametrize("line", commands())
def test_a_command_can_be_run(line, node):
    support.run("bash", "-n", input=line)
    words = shlex.split(line)
    assert words[0] in RUNNERS, f"no test runs this command of deploy/README.md: {line}"
    RUNNERS[words[0]](words, node)


def test_inline_commands_are_commands():
    told = [shlex.split(code) for code in re.findall(r"`(kubectl [^`]+)`", without_fences(README).replace("\n", " "))]
    assert len(told) >= 5
    for words in told:
        words = words[1 : words.index("--")] if "--" in words else words[1:]
        kubectl_knows(words, [word for i, word in enumerate(words) if word != "-n" and words[i - 1] != "-n"])


def test_what_is_shown_is_what_is_printed(node):
    (shown,) = [text for text in fences(README, "text") if text.startswith("instance")]
    printed = node.run(NODENS, "network", "status", check=True)
    first = lambda text: [line.split()[0] for line in text.splitlines()]
    assert first(shown) == first(printed)


def test_metrics_are_those_of_the_page(node):
    page = node.run("curl", "-s", "http://127.0.0.1:9253/metrics", check=True)
    there = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    told = set(re.findall(r"\b((?:nodens|coredns)_[a-z_]+)", README))
    assert len(told) >= 6
    # There only while there is such a chain.
    there |= {"nodens_network_filter_drops"} & set(re.findall(r'"(\w+)"', (ROOT / "src/app/network_metrics.rs").read_text()))
    assert told <= there, told - there
    for name, label, value in re.findall(r'\b(nodens_\w+)\{(\w+)="(\w+)"\}', README):
        assert re.search(rf'^{name}\{{[^}}]*{label}="{value}"', page, re.M), name


def test_the_drill_kills_guardian_and_server(tmp_path):
    (line,) = [line for line in commands() if line.startswith("kubectl debug ")]
    words = shlex.split(line)
    with Node(tmp_path) as node:
        node.serve(support.named(support.overlay("link-local-only"), "ConfigMap", "nodens")["data"]["nodens.yaml"])
        node.run(*words[words.index("--") + 1 :], check=True)
        assert node.nodens.wait(10) != 0
        assert "serving" not in node.run(NODENS, "network", "status")

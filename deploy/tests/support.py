"""What the tests of deploy/ share: where things are, how manifests are rendered, and what is held against what.

Tools come from target/deploy, where `deploy/check` puts them; NODENS names another binary than target/debug/nodens.
"""

import os
import pathlib
import subprocess

import jsonschema
import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
TOOLS = ROOT / "target" / "deploy" / "bin"
NODENS = pathlib.Path(os.environ.get("NODENS", ROOT / "target" / "debug" / "nodens"))
OVERLAYS = DEPLOY / "kustomize" / "overlays"
CHART = DEPLOY / "helm" / "nodens"
# Kubernetes versions that manifests are for: the oldest that somebody still supports, to the newest.
VERSIONS = ["1.31", "1.33", "1.35", "1.37"]
# Schemas of custom resources, by kind; the rest is Kubernetes' own.
CUSTOM = pathlib.Path(__file__).resolve().parent / "schemas"


def run(*command, check=True, **options):
    """Runs a command and gives what it printed; what it complained of is in the failure."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout if check else done


def objects(text):
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def overlay(name):
    """The objects of an overlay."""
    return objects(run(TOOLS / "kubectl", "kustomize", OVERLAYS / name))


def chart(*arguments, values=None):
    """The objects of the chart, with `values` laid over its own."""
    given = yaml.safe_dump(values or {})
    command = [TOOLS / "helm", "template", "nodens", CHART, "--namespace", "kube-system", "--values", "-", *arguments]
    return objects(run(*command, input=given))


def named(found, kind, name=None):
    """The only object of that kind, or of that kind and name."""
    fitting = [o for o in found if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(fitting) == 1, f"{len(fitting)} objects {kind} {name}"
    return fitting[0]


def validate(thing):
    """Holds an object against the schemas of all VERSIONS, unknown fields refused; custom resources against CUSTOM."""
    schema = CUSTOM / f"{thing['kind'].lower()}.yaml"
    if schema.exists():
        jsonschema.validate(thing, yaml.safe_load(schema.read_text()))
        return
    for version in VERSIONS:
        kubernetes_validate.validate(thing, version, strict=True)


def check_config(text, tmp_path, name="nodens.yaml"):
    """Has `nodens check` read a configuration, as a pod would: with the Services' addresses in the environment."""
    file = tmp_path / name
    file.write_text(text)
    services = {"KUBE_DNS_SERVICE_HOST": "10.96.0.10", "KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.0.11"}
    return run(NODENS, "check", "--config", file, env={**os.environ, **services})

"""What the tests of deploy/ share: where things are, how manifests are rendered, and what is held against what.

Tools come from target/deploy, where `deploy/check` puts them; NODENS names another binary than target/debug/nodens.
"""

import functools
import os
import pathlib
import subprocess

import jsonschema
import kubernetes_validate
import referencing.jsonschema
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
TOOLS = ROOT / "target" / "deploy" / "bin"
NODENS = pathlib.Path(os.environ.get("NODENS", ROOT / "target" / "debug" / "nodens"))
OVERLAYS = DEPLOY / "kustomize" / "overlays"
CHART = DEPLOY / "helm" / "nodens"
# Kubernetes versions that manifests are for: the oldest that somebody still supports, to the newest.
VERSIONS = ["1.31", "1.33", "1.35", "1.37"]
# Schemas of custom resources, by kind, and parts that they share; the rest is Kubernetes' own.
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


def kustomization(folder):
    """The objects of a kustomization, which renders without a warning."""
    rendered = run(TOOLS / "kubectl", "kustomize", folder, check=False)
    assert rendered.returncode == 0 and not rendered.stderr, f"{folder}: {rendered.stderr}"
    return objects(rendered.stdout)


def overlay(name):
    """The objects of an overlay."""
    return kustomization(OVERLAYS / name)


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


@functools.cache
def custom():
    """The schemas of custom resources, by the names of their files, which is how they name each other's parts."""
    known = referencing.jsonschema.DRAFT202012
    files = {file.name: known.create_resource(yaml.safe_load(file.read_text())) for file in CUSTOM.glob("*.yaml")}
    return referencing.Registry().with_resources(files.items())


def validate(thing):
    """Holds an object against the schemas of all VERSIONS, unknown fields refused; custom resources against CUSTOM."""
    schema = f"{thing['kind'].lower()}.yaml"
    if schema in custom():
        jsonschema.Draft202012Validator({"$ref": schema}, registry=custom()).validate(thing)
        return
    for version in VERSIONS:
        used = kubernetes_validate.validate(thing, version, strict=True)
        assert used == version, f"there are no schemas of Kubernetes {version}"


def check_config(text, tmp_path, name="nodens.yaml"):
    """Has `nodens check` read a configuration, as a pod would: with the Services' addresses in the environment."""
    file = tmp_path / name
    file.write_text(text)
    services = {"KUBE_DNS_SERVICE_HOST": "10.96.0.10", "KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.0.11"}
    return run(NODENS, "check", "--config", file, env={**os.environ, **services})

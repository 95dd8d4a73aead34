"""Rules, monitors and dashboard: valid, complete, about metrics that there are, and run against a real nodens."""

import importlib.machinery
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from node import cannot
from support import DEPLOY, NODENS, ROOT, kustomization, named, run, validate

HERE = DEPLOY / "observability"
RULES = [rule for group in yaml.safe_load((HERE / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TEST_FILE = yaml.safe_load((HERE / "rules_test.yaml").read_text())
TESTS = TEST_FILE["tests"]
DASHBOARD = json.loads((HERE / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]


def firing(alert):
    """What is asked in a test of an alert."""
    return f'ALERTS{{alertname="{alert}", alertstate="firing"}}'


def checks(expression):
    """Each test of an expression, with what it expects."""
    asked = (check for test in TESTS for check in test["promql_expr_test"] if check["expr"] == expression)
    return [check.get("exp_samples", []) for check in asked]


def test_promtool_accepts_the_rules():
    run("promtool", "check", "rules", HERE / "rules.yaml")


def test_rules_do_what_their_tests_say():
    run("promtool", "test", "rules", HERE / "rules_test.yaml")


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_not_firing(alert):
    expected = checks(firing(alert))
    assert any(expected), "nowhere it is expected to fire"
    assert not all(expected), "nowhere it is expected not to fire"
    if any("cluster=" in sample["labels"] for samples in expected for sample in samples):
        test = next(test for test in TESTS if test["name"] == alert)
        clusters = {re.search('cluster="(\\w+)"', series["series"])[1] for series in test["input_series"]}
        assert clusters == {"bad", "good"}
        assert not any('"good"' in sample["labels"] for samples in expected for sample in samples)


@pytest.mark.parametrize("record", [rule["record"] for rule in RULES if "record" in rule])
def test_a_recording_is_tested(record):
    tested = (check for test in TESTS for check in test["promql_expr_test"] if record in check["expr"])
    assert any(check["exp_samples"] for check in tested)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert len(re.findall(r"[.?](?= |$)", rule["annotations"]["runbook"])) >= 3, "what it means, who notices, what to do"


def test_texts_of_alerts_can_be_written(tmp_path):
    # Where other annotations are expected, promtool tells those that there are.
    tests = []
    for test in (test for test in TESTS if test["name"] in ALERTS):
        time = next(check["eval_time"] for check in test["promql_expr_test"] if check.get("exp_samples"))
        alert = {"alertname": test["name"], "eval_time": time, "exp_alerts": []}
        tests.append({**test, "promql_expr_test": [], "alert_rule_test": [alert]})
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({**TEST_FILE, "rule_files": [str(HERE / "rules.yaml")], "tests": tests}))
    told = run("promtool", "test", "rules", file, check=False).stderr
    assert "error expanding" not in told and "<no value>" not in told and "{{" not in told, told
    for alert in ALERTS:
        assert f'alertname="{alert}"' in told
    for text in re.findall(r'description="([^"]*)"', told):
        assert "  " not in text and not text.endswith(": "), f"no node is named: {text}"


def test_the_object_is_the_file():
    file = (HERE / "rules.yaml").read_text()
    rules = re.sub("^(?=.)", "  ", file[file.index("groups:") :], flags=re.MULTILINE)
    assert (HERE / "prometheusrule.yaml").read_text().split("\nspec:\n")[1] == rules


def test_the_kustomization_is_valid():
    found = kustomization(HERE)
    pod_monitor = yaml.safe_load((HERE / "podmonitor.yaml").read_text())
    for thing in [*found, pod_monitor]:
        validate(thing)
        assert thing["metadata"]["namespace"] == "kube-system"
        assert thing["metadata"]["labels"]["app.kubernetes.io/name"] == "nodens"
    assert {thing["kind"] for thing in found} == {"ConfigMap", "PrometheusRule", "ServiceMonitor"}
    stored = named(found, "ConfigMap", "nodens-dashboard")
    assert stored["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(stored["data"]["nodens.json"]) == DASHBOARD
    # `kubectl apply` puts a copy into an annotation.
    assert len(json.dumps(stored)) < 250_000


def relabelled(relabelings, meta):
    """What becomes of a target's labels."""
    labels = dict(meta)
    for rule in relabelings:
        if rule.get("action") == "labeldrop":
            labels = {name: value for name, value in labels.items() if not re.fullmatch(rule["regex"], name)}
        else:
            source = ";".join(labels.get(name, "") for name in rule.get("sourceLabels", []))
            if match := re.fullmatch(rule.get("regex", "(.*)"), source):
                labels[rule["targetLabel"]] = match.expand(rule.get("replacement", "$1").replace("$1", r"\1"))
    return {name: value for name, value in labels.items() if not name.startswith("__meta")}


@pytest.mark.parametrize("ip, address", [("10.0.0.7", "10.0.0.7:9253"), ("fd00::7", "[fd00::7]:9253")])
def test_monitors_give_the_labels_that_rules_need_and_count_a_node_once(ip, address):
    services = named(kustomization(HERE), "ServiceMonitor")["spec"]["endpoints"]
    pods = yaml.safe_load((HERE / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"]
    for endpoints in services, pods:
        assert len(endpoints) == 1
        # During an upgrade two pods share the address.
        meta = {"__meta_kubernetes_pod_ip": ip, "__meta_kubernetes_pod_node_name": "n1", "namespace": "kube-system"}
        both = [
            relabelled(endpoints[0]["relabelings"], {**meta, "job": "x", "pod": pod, "container": "nodens"}) for pod in "ab"
        ]
        assert both[0] == both[1]
        assert both[0].pop("__address__", address) == address
        assert both[0] == {"job": "nodens", "node": "n1", "namespace": "kube-system"}


def test_rules_and_dashboard_are_about_metrics_that_there_are():
    # Which is what users read; test_every_query_gives_data asks a real nodens.
    documented = set(re.findall(r"`((?:nodens|coredns)_\w+)`", (ROOT / "README.md").read_text()))
    for query in [rule["expr"] for rule in RULES] + [target["expr"] for _, target in TARGETS]:
        for name in re.findall(r"(?<![\w:])(?:nodens|coredns)_\w+", query):
            assert re.sub("_(bucket|sum|count)$", "", name) in documented, query


def test_the_dashboard_is_what_its_program_prints():
    assert (HERE / "dashboard.json").read_text() == run(sys.executable, HERE / "make-dashboard")


def test_panels_stand_beside_each_other():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        for cell in cells:
            assert cell not in taken, panel["title"]
            taken.add(cell)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_is_normal_and_asks_by_the_variables(panel):
    assert "Normal: " in panel["description"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["type"] in ("heatmap", "table") or panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        selections = re.findall(r"\{([^}]*)\}", target["expr"])
        assert selections and all(s.startswith('cluster=~"$cluster", job=~"$job", node=~"$node"') for s in selections)
        assert "[" not in target["expr"].replace("[$__rate_interval]", "")
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), f"{target['expr']} has no {label}"


def test_promtool_understands_the_queries_of_the_dashboard(tmp_path):
    rules = [
        {"record": f"query{at}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for at, (_, target) in enumerate(TARGETS)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run("promtool", "check", "rules", file)


def test_every_query_gives_data():
    for tool in "unshare", "nsenter", "ip", "nft", "prometheus":
        if not shutil.which(tool):
            cannot(f"needs {tool}")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tun = "ip tuntap add dev probe mode tun"
    if subprocess.run(["unshare", *user, "--net", "sh", "-c", tun], capture_output=True).returncode != 0:
        cannot("needs network namespaces and /dev/net/tun")
    told = run(sys.executable, HERE / "render", "--seconds", "12", env={**os.environ, "NODENS": str(NODENS)}, timeout=120)
    assert f"{len(TARGETS)} queries of {len(PANELS)} panels gave data" in told


def test_queries_without_data_are_told(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    loader = importlib.machinery.SourceFileLoader("render", str(HERE / "render"))
    render = importlib.util.module_from_spec(importlib.util.spec_from_loader("render", loader))
    loader.exec_module(render)
    nothing = {"query": {"result": []}, "query_range": {"result": []}, "rules": {"groups": []}}
    monkeypatch.setattr(render, "ask", lambda what, **_: nothing.get(what, []))
    with pytest.raises(SystemExit) as failure:
        render.evaluate(DASHBOARD, 0, 60)
    for title, _ in TARGETS:
        assert f"{title}: no data for " in str(failure.value)

"""Every expression of every dashboard, rule and autoscaler resolves against a running cluster: names, labels, values, legends."""
import glob
import json
import os
import re
import subprocess
import sys
import time

import grpc
import pytest
import yaml
from conftest import ROOT
from live import prometheus_over_traffic
from promql import Expression, queryable

CODES = {code.name for code in grpc.StatusCode}
PROMETHEUS = os.path.join(ROOT, "deploy/prometheus")


def rules(file):
    for group in yaml.safe_load(open(os.path.join(PROMETHEUS, file)))["groups"]:
        yield from group["rules"]


def panel_targets():
    for path in sorted(glob.glob(os.path.join(ROOT, "deploy/grafana/*.json"))):
        for panel in json.load(open(path))["panels"]:
            for target in panel["targets"]:
                yield f"{os.path.basename(path)}: {panel['title']}", target["expr"], target["legendFormat"]


def scaler_queries():
    for path in sorted(glob.glob(os.path.join(ROOT, "deploy/k8s/**/*.yaml"), recursive=True)):
        for document in yaml.safe_load_all(open(path)):
            for trigger in ((document or {}).get("spec") or {}).get("triggers", []) if (document or {}).get("kind") == "ScaledObject" else []:
                yield f"{os.path.basename(path)}: {document['metadata']['name']}", trigger["metadata"]["query"]


def expressions():
    """(where, expression, labels that its texts use, whether it must have a result)."""
    for where, expression, legend in panel_targets():
        yield where, queryable(expression), set(re.findall(r"{{(\w+)}}", legend)), True
    for where, query in scaler_queries():
        yield where, query, set(), True
    for rule in rules("recording.yml"):
        yield rule["record"], rule["expr"], set(), True
    for rule in rules("alerts.yml"):
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        yield rule["alert"], rule["expr"], used, False


@pytest.fixture(scope="module")
def prometheus(request, tmp_path_factory):
    with prometheus_over_traffic(request.config.getoption("--bin-dir"), str(tmp_path_factory.mktemp("live"))) as server:
        yield server


def sources():
    text = ""
    for room in ("gateway", "worker", "proto"):
        for path in glob.glob(os.path.join(ROOT, room, "**/*"), recursive=True):
            if path.endswith((".cc", ".h", ".proto")):
                text += open(path, encoding="utf-8").read()
    return text


def test_every_expression_resolves(prometheus):
    wanted = {metric for _, text, _, _ in expressions() for metric in Expression(text).metrics}
    missing = set()

    def all_there():
        missing.clear()
        missing.update(wanted - prometheus.names())
        return not missing

    try:
        prometheus.until(all_there, "")
    except AssertionError:
        pytest.fail(f"no program exports {', '.join(sorted(missing))}")
    code = sources()
    faults = []
    for where, text, used, must_have_result in expressions():
        faults += [f"{where}: {fault}" for fault in faults_of(prometheus, text, used, must_have_result, code)]
    assert not faults, "\n".join(faults)


def faults_of(prometheus, text, used, must_have_result, code):
    expression = Expression(text)
    labels = {}
    for metric in expression.metrics:
        series = prometheus.ask("series", **{"match[]": metric})
        labels[metric] = {}
        for one in series:
            for label, value in one.items():
                labels[metric].setdefault(label, set()).add(value)
    known = set().union(*labels.values()) if labels else set()
    for label in (expression.labels | used) - known:
        yield f"no series of {text} has the label {label}"
    for metric, label, operator, value in expression.matchers:
        if label not in labels[metric]:
            yield f"{metric} has no label {label}"
        elif operator in ("=", "=~"):
            for one in value.split("|") if operator == "=~" else [value]:
                seen = any(re.fullmatch(one, v) for v in labels[metric][label]) or one in CODES
                if not seen and not re.search(rf'"{one}"|_{one}\b', code, re.I):
                    yield f"{metric} never has {label}={one!r}"
    now = time.time()
    try:
        result = prometheus.ask("query_range", query=text, start=now - 120, end=now, step=1)["result"]
    except ValueError as error:
        yield str(error)
        return
    if must_have_result and not result:
        yield f"{text} has no result"


def test_alerts_and_runbooks():
    assert subprocess.run(["promtool", "check", "rules", *glob.glob(PROMETHEUS + "/*ing.yml"), PROMETHEUS + "/alerts.yml"]).returncode == 0
    for cases in glob.glob(PROMETHEUS + "/tests/*.yml"):
        assert subprocess.run(["promtool", "test", "rules", cases]).returncode == 0
    tested = "".join(open(cases).read() for cases in glob.glob(PROMETHEUS + "/tests/*.yml"))
    runbook = open(os.path.join(ROOT, "docs/operations.md"), encoding="utf-8").read()
    for rule in rules("alerts.yml"):
        assert f'alertname="{rule["alert"]}"' in tested, f"no case makes {rule['alert']} fire"
        assert f"\n### {rule['alert']}\n" in runbook, f"docs/operations.md has no runbook for {rule['alert']}"


def test_dashboards_are_what_their_tables_say(tmp_path):
    subprocess.run([sys.executable, os.path.join(ROOT, "deploy/grafana/make.py"), str(tmp_path)], check=True)
    made = sorted(os.listdir(tmp_path))
    assert made == sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "deploy/grafana/*.json")))
    for name in made:
        assert open(os.path.join(ROOT, "deploy/grafana", name)).read() == open(tmp_path / name).read(), f"{name}: run deploy/grafana/make.py"

"""Manifests, units, compose files and Dockerfiles: valid, whole, and with flags that the programs have."""
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

K8S = os.path.join(ROOT, "deploy/k8s")
TOOLS = os.path.dirname(sys.executable)
# Kinds that an operator of the cluster brings; kubernetes-validate has no schema of them.
CUSTOM = {"PodMonitor", "ScaledObject", "Certificate", "Issuer", "LeaderWorkerSet"}


def documents(path):
    return [document for document in yaml.safe_load_all(open(path)) if document]


def manifests():
    for path in sorted(glob.glob(K8S + "/**/*.yaml", recursive=True)):
        if os.path.basename(path) != "kustomization.yaml":
            for document in documents(path):
                yield path, document


def pod_template(document):
    """Of what makes pods; else empty."""
    spec = document.get("spec", {})
    return spec.get("template") or spec.get("leaderWorkerTemplate", {}).get("workerTemplate", {})


def overlays():
    return sorted(glob.glob(K8S + "/overlays/*"))


@pytest.fixture(scope="module")
def flags(request):
    """The long flags of a program, from its --help."""

    def of(program):
        text = subprocess.run([os.path.join(request.config.getoption("--bin-dir"), program), "--help"], capture_output=True, text=True).stdout
        return set(re.findall(r"--[a-z][a-z0-9-]*", text))

    return {program: of(program) for program in ("berth-gateway", "berth-worker")}


def unknown_flags(arguments, known):
    return [argument for argument in arguments if argument.startswith("--") and argument.split("=")[0] not in known]


def validate(*paths):
    done = subprocess.run([os.path.join(TOOLS, "kubernetes-validate"), "--strict", *paths], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    unknown = set(re.findall(r"Couldn't find schema for kind (\w+)", said))
    assert unknown <= CUSTOM, said


def test_plain_manifests_are_valid():
    validate(*sorted({path for path, _ in manifests()}))


@pytest.mark.parametrize("overlay", overlays(), ids=os.path.basename)
def test_overlays_build_and_are_valid(overlay, tmp_path):
    """With kubectl what it builds is validated too; without it, that all files and patched paths are there."""
    if shutil.which("kubectl"):
        built = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        (tmp_path / "built.yaml").write_text(built.stdout)
        validate(str(tmp_path / "built.yaml"))
    kustomization = documents(overlay + "/kustomization.yaml")[0]
    names = {(document["kind"], document["metadata"]["name"]) for _, document in manifests()}
    for folder in kustomization["resources"] + kustomization.get("components", []):
        inner = os.path.join(overlay, folder)
        for resource in documents(inner + "/kustomization.yaml")[0]["resources"]:
            assert os.path.exists(os.path.join(inner, resource))
    for patch in kustomization["patches"]:
        assert (patch["target"]["kind"], patch["target"]["name"]) in names
        assert all({"op", "path"} <= set(operation) for operation in yaml.safe_load(patch["patch"]))


def test_gateways_look_for_the_workers_service():
    objects = {(document["kind"], document["metadata"]["name"]): document for _, document in manifests()}
    service = objects["Service", "worker"]["spec"]
    arguments = objects["Deployment", "gateway"]["spec"]["template"]["spec"]["containers"][0]["args"]
    namespace = documents(K8S + "/base/kustomization.yaml")[0]["namespace"]
    assert f"--workers=srv:_{service['ports'][0]['name']}._tcp.worker.{namespace}.svc.cluster.local" in arguments
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]


def test_containers_have_flags_that_exist_and_ports_that_probes_name(flags):
    seen = 0
    for path, document in manifests():
        pods = pod_template(document).get("spec", {})
        for container in pods.get("containers", []):
            seen += 1
            assert not unknown_flags(container["args"], flags[container["image"]]), path
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                handler = container[probe].get("httpGet") or container[probe]["grpc"]
                assert handler["port"] in ports or handler["port"] in ports.values(), (path, probe)
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pods["volumes"]}, path
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and pods["securityContext"]["runAsNonRoot"]
    assert seen >= 3


def test_selectors_and_references_meet():
    pods, names = [], set()
    for _, document in manifests():
        names.add((document["kind"], document["metadata"]["name"]))
        if template := pod_template(document):
            pods.append(template["metadata"]["labels"])
    for path, document in manifests():
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector if document["kind"] == "Service" else {})
        if wanted:
            assert any(wanted.items() <= labels.items() for labels in pods), (path, document["metadata"]["name"])
        if document["kind"] == "ScaledObject":
            assert (spec["scaleTargetRef"].get("kind", "Deployment"), spec["scaleTargetRef"]["name"]) in names
        if document["kind"] == "StatefulSet":
            assert ("Service", spec["serviceName"]) in names
    assert {name for kind, name in names if kind == "PodDisruptionBudget"} == {"gateway", "worker"}


def test_units(flags, request, tmp_path):
    units = os.path.join(ROOT, "deploy/systemd")
    binaries = os.path.abspath(request.config.getoption("--bin-dir"))
    made = []
    for path in sorted(glob.glob(units + "/*.service")):
        text = open(path).read()
        command = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.M)[1])
        assert not unknown_flags(command[1:], flags[os.path.basename(command[0])]), path
        # As it would be installed, but with the programs where they are now.
        name = os.path.basename(path).replace("@.", "@0.")
        (tmp_path / name).write_text(text.replace("/opt/berth/bin", binaries))
        made.append(str(tmp_path / name))
    shutil.copy(units + "/berth.target", tmp_path)
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: flags alone were checked")
    done = subprocess.run(["systemd-analyze", "verify", *made], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    for unit in made:
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-300:]


def test_compose(flags):
    folder = os.path.join(ROOT, "deploy/compose")
    compose = documents(folder + "/compose.yml")[0]
    gpu = documents(folder + "/compose.gpu.yml")[0]
    dockerfile = open(os.path.join(ROOT, "deploy/docker/Dockerfile")).read()
    metrics = set()
    for name, service in [*compose["services"].items(), *gpu["services"].items()]:
        program = "berth-" + name.split("-")[0]
        if program in flags and "command" in service:
            assert not unknown_flags(service["command"], flags[program]), name
            metrics |= {"127.0.0.1:" + word.split("=")[1] for word in service["command"] if word.startswith("--metrics-port=")}
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in dockerfile, name
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith(".."):
                assert os.path.exists(os.path.join(folder, source)), volume
            elif "build" in service and source in compose["volumes"]:  # a new volume has the owner that the image's folder has
                assert f"RUN install -d -o 65532 -g 65532 {target}\n" in dockerfile, volume
    assert set(gpu["services"]) - {"dcgm-exporter"} <= set(compose["services"])
    jobs = documents(os.path.join(ROOT, "deploy/prometheus/prometheus.yml"))[0]["scrape_configs"]
    scraped = {target for job in jobs if job["job_name"].startswith("berth") for group in job["static_configs"] for target in group["targets"]}
    assert scraped == metrics


def test_the_handbook_names_flags_that_exist(flags):
    text = open(os.path.join(ROOT, "docs/operations.md"), encoding="utf-8").read()
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--now"}
    assert named and named <= set().union(*flags.values())


def test_dockerfiles():
    for path in glob.glob(os.path.join(ROOT, "deploy/docker/Dockerfile*")):
        if not path.endswith(".dockerignore"):
            done = subprocess.run([os.path.join(TOOLS, "hadolint"), path], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            for source in re.findall(r"^COPY (?!--from)(.+) \S+$", open(path).read(), re.M):
                assert all(os.path.exists(os.path.join(ROOT, one)) for one in source.split()), source

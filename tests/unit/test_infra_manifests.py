"""The manifests for KubeRay, as far as they can be judged without a cluster: fields, and what they promise.

FIELDS is ray.io/v1 as KubeRay 1.7.0 describes it: docs/reference/api.md of ray-project/kuberay, made from its Go types.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra/kuberay"
CPU, CUDA = "REGISTRY/hyperface-cpu:TAG", "REGISTRY/hyperface-cuda:TAG"
OURS = {"app.kubernetes.io/part-of": "hyperface"}

POD, MAP = "a pod template", "words by word"
FIELDS: dict[str, dict[str, Any]] = {
    "RayJobSpec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "clusterSelector": MAP,
        "entrypoint": str,
        "entrypointNumCpus": float,
        "entrypointNumGpus": float,
        "entrypointResources": str,
        "jobId": str,
        "managedBy": str,
        "metadata": MAP,
        "preRunningDeadlineSeconds": int,
        "rayClusterSpec": "RayClusterSpec",
        "runtimeEnvYAML": str,
        "shutdownAfterJobFinishes": bool,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "submitterConfig": "SubmitterConfig",
        "submitterPodTemplate": POD,
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "SubmitterConfig": {"backoffLimit": int},
    "RayClusterSpec": {
        "authOptions": "AuthOptions",
        "autoscalerOptions": "AutoscalerOptions",
        "enableInTreeAutoscaling": bool,
        "headGroupSpec": "HeadGroupSpec",
        "headServiceAnnotations": MAP,
        "managedBy": str,
        "rayVersion": str,
        "suspend": bool,
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"mode": {"disabled", "token"}, "secretName": str},
    "AutoscalerOptions": {
        "idleTimeoutSeconds": int,
        "image": str,
        "imagePullPolicy": str,
        "resources": dict,
        "securityContext": dict,
        "upscalingMode": {"Default", "Aggressive", "Conservative"},
        "version": {"v1", "v2"},
    },
    "HeadGroupSpec": {
        "enableIngress": bool,
        "labels": MAP,
        "rayStartParams": MAP,
        "resources": MAP,
        "serviceType": str,
        "template": POD,
    },
    "WorkerGroupSpec": {
        "groupName": str,
        "idleTimeoutSeconds": int,
        "labels": MAP,
        "maxReplicas": int,
        "minReplicas": int,
        "numOfHosts": int,
        "priority": int,
        "rayStartParams": MAP,
        "replicas": int,
        "resources": MAP,
        "suspend": bool,
        "template": POD,
    },
}


def faults(kind: Any, value: Any, where: str) -> Iterator[str]:
    """Yield what the API server would refuse, or silently drop, in a value of ray.io/v1."""
    if isinstance(kind, list):
        for number, each in enumerate(value):
            yield from faults(kind[0], each, f"{where}[{number}]")
    elif isinstance(kind, str) and kind in FIELDS:
        for name, inner in value.items():
            if name not in FIELDS[kind]:
                yield f"{where}.{name}: {kind} has no such field"
            else:
                yield from faults(FIELDS[kind][name], inner, f"{where}.{name}")
    elif not fits(kind, value):
        yield f"{where}: {value!r} is not {kind}"


def fits(kind: Any, value: Any) -> bool:
    if isinstance(kind, set):
        return value in kind
    if kind == MAP:
        return all(isinstance(word, str) for word in value.values())
    if kind == POD:
        return set(value) == {"metadata", "spec"} and bool(value["spec"]["containers"])
    return type(value) is kind


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def cluster_spec(name: str) -> dict[str, Any]:
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> list[dict[str, Any]]:
    """The templates of all pods: head, workers, and the submitter of a RayJob."""
    spec, cluster = read(name)["spec"], cluster_spec(name)
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    return [*templates, spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else templates


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_every_field_is_one_of_ray_io_v1_and_of_its_type(kind):
    manifest = read(f"{kind.lower()}.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    assert list(faults(f"{kind}Spec", manifest["spec"], "spec")) == []


def test_a_field_that_is_not_there_or_of_another_type_is_found():
    spec = {
        "backoffLimits": 2,
        "submissionMode": "Job",
        "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {"a": 1}}},
    }
    assert len(list(faults("RayJobSpec", spec, "spec"))) == 3


def test_a_job_runs_on_the_cluster_that_stays_as_well():
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")


def test_the_version_of_ray_is_the_frozen_one():
    frozen = (ROOT / "infra/constraints/cpu.txt").read_text()
    assert f"\nray=={cluster_spec('rayjob.yaml')['rayVersion']}\n" in frozen


def test_an_idle_cluster_is_one_head_without_gpu_and_workers_come_on_demand():
    spec = cluster_spec("raycluster.yaml")
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    head, *workers = pods("raycluster.yaml")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in head["spec"]["containers"][0]["resources"]["limits"]
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in spec["workerGroupSpecs"])
    gpus = [pod["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in workers]
    assert gpus == [None, "1"]
    assert [pod["spec"]["containers"][0]["image"] for pod in (head, *workers)] == [CPU, CPU, CUDA]


def test_every_pod_asks_for_a_token_runs_without_rights_and_is_never_reused():
    assert cluster_spec("rayjob.yaml")["authOptions"] == {"mode": "token"}
    for pod in pods("rayjob.yaml"):
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["restartPolicy"] == "Never"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert set(container["resources"]["requests"]) == set(container["resources"]["limits"])


def test_only_the_head_may_speak_to_kubernetes_and_nodes_reach_the_bucket_by_their_account():
    head, *others = pods("rayjob.yaml")
    assert head["spec"]["serviceAccountName"] == read("serviceaccount.yaml")["metadata"]["name"]
    assert [pod["spec"].get("serviceAccountName") for pod in others] == ["hyperface", "hyperface", None]
    assert "automountServiceAccountToken" not in head["spec"]
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in others)


def test_no_manifest_holds_a_secret():
    for file in FOLDER.glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["kind"] != "Secret"
        assert not re.search(r"RAY_AUTH_TOKEN|AWS_(SECRET|ACCESS)|password|AKIA", file.read_text(), re.IGNORECASE), file


def test_a_job_is_tried_again_cleaned_up_and_given_its_code_and_pools():
    spec = read("rayjob.yaml")["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    environment = yaml.safe_load(spec["runtimeEnvYAML"])
    assert re.fullmatch(r"s3://.+\.zip", environment["working_dir"])  # a folder of the client cannot be meant here
    assert set(environment["env_vars"]) == {"HYPERFACE_GIT_SHA"}
    words = spec["entrypoint"].split()
    assert words[:4] == ["python", "-m", "jobs.pipeline", "jobs/configs/toy.yaml"]
    assert "run.dir=s3://BUCKET/RUNS/NAME" in words
    given = {word.split("=")[0] for word in words[4:]}
    assert given >= {"embed.num_actors", "packing.num_workers", "synthesis.num_actors", "synthesis.gpus_per_actor"}


def test_the_entrypoint_is_a_configuration_that_the_job_accepts():
    from hyperface.config import load

    _, _, _, source, *overrides = read("rayjob.yaml")["spec"]["entrypoint"].split()
    assert load(str(ROOT / source), overrides).synthesis.gpus_per_actor == 1


def test_the_driver_is_given_time_to_leave():
    head, *workers = [pod["spec"] for pod in pods("rayjob.yaml") if "terminationGracePeriodSeconds" in pod["spec"]]
    (container,) = head["containers"]
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "60"} in container["env"]
    assert [spec["terminationGracePeriodSeconds"] for spec in (head, *workers)] == [90] * 3


def test_a_job_and_the_cluster_that_stays_share_no_service():
    names = [read(name)["metadata"]["name"] for name in ("rayjob.yaml", "raycluster.yaml")]
    assert len(set(names)) == 2


def test_the_network_policy_covers_every_pod_and_opens_only_dashboard_and_metrics_to_others():
    policy = read("networkpolicy.yaml")["spec"]
    assert policy["podSelector"] == {"matchLabels": OURS}
    assert all(OURS.items() <= pod["metadata"]["labels"].items() for pod in pods("rayjob.yaml"))
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    inside, *outside = policy["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": OURS}}]}
    assert [[port["port"] for port in rule["ports"]] for rule in outside] == [[8265], [8080]]
    for rule in outside:
        for peer in rule["from"]:  # nobody without a label, of the pod or of the namespace
            assert any((selector or {}).get("matchLabels") for selector in peer.values())
    inside, *outside = policy["egress"]
    assert inside == {"to": [{"podSelector": {"matchLabels": OURS}}]}
    assert [[port["port"] for port in rule["ports"]] for rule in outside] == [[53, 53], [443, 6443]]


def test_the_command_of_the_readme_leaves_no_placeholder():
    readme = (ROOT / "infra/README.md").read_text()
    (define,) = re.findall(r"^values\(\) \{.*\}$", readme, re.MULTILINE)
    values = {"REGISTRY": "r.example", "TAG": "1", "BUCKET": "b", "ACCOUNT": "12", "RUN": "runs/a", "COMMIT": "abc"}
    for file in FOLDER.glob("*.yaml"):
        command = ["bash", "-c", f"{define}\nvalues {file}"]
        text = subprocess.run(command, env=os.environ | values, capture_output=True, text=True, check=True).stdout
        words = "\n".join(line.split("#")[0] for line in text.splitlines())
        assert not re.search(r"REGISTRY|TAG|BUCKET|ACCOUNT|COMMIT|RUNS|NAME\b", words), file

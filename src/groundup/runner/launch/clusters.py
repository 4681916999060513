"""Files that start `groundup nodes` on a cluster: a task for SkyPilot, a TrainJob for Kubeflow Trainer on Kubernetes.

Both mount one volume on all nodes: it holds the checkout, set up by `make setup` in the same image.
"""

import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

from groundup.runner.launch.jobs import END_SECONDS
from groundup.runner.launch.settings import Launch

CHECKOUT = "/groundup"  # where the volume is mounted
GRACE_SECONDS = 2 * END_SECONDS  # from SIGTERM to SIGKILL: the processes save a checkpoint, then the stage ends
CONTAINER = "node"  # as the runtime torch-distributed of Kubeflow Trainer calls its job and container


class Cluster(NamedTuple):
    """What only a cluster's user knows."""

    image: str
    volume: str
    accelerator: str  # as SkyPilot calls the GPU, such as H100; empty on CPUs


def _line(node: str, head: str) -> str:
    """`node`, `head`: the shell's expressions for the number of a node and the address of the first one."""
    command = f'exec groundup nodes --node "{node}" --head "{head}" -- dvc repro'
    return f"cd {shlex.quote(CHECKOUT)} && . .venv/bin/activate && {command}"


def sky_task(launch: Launch, cluster: Cluster) -> dict[str, Any]:
    resources: dict[str, Any] = {"image_id": f"docker:{cluster.image}"}
    if launch.device == "cuda":
        resources["accelerators"] = {cluster.accelerator: launch.processes}
    return {
        "name": "groundup",
        "num_nodes": launch.nodes,
        "resources": resources,
        "volumes": {CHECKOUT: cluster.volume},
        "run": _line("$SKYPILOT_NODE_RANK", '$(echo "$SKYPILOT_NODE_IPS" | head -n 1)') + "\n",
    }


def train_job(launch: Launch, cluster: Cluster) -> dict[str, Any]:
    trainer: dict[str, Any] = {
        "image": cluster.image,
        "numNodes": launch.nodes,
        "command": ["bash", "-c", _line("$PET_NODE_RANK", "$PET_MASTER_ADDR")],
    }
    if launch.device == "cuda":
        trainer["resourcesPerNode"] = {"limits": {"nvidia.com/gpu": launch.processes}}
    pod = {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": cluster.volume}}],
        "containers": [{"name": CONTAINER, "volumeMounts": [{"name": "checkout", "mountPath": CHECKOUT}]}],
    }
    nodes = {"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "groundup"},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": trainer,
            "runtimePatches": [
                {
                    "manager": "groundup",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [nodes]}}},
                }
            ],
        },
    }


FILES: dict[str, Callable[[Launch, Cluster], dict[str, Any]]] = {"sky": sky_task, "kubernetes": train_job}

"""The Job of one attempt, as a document for the API server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from perdure_api import names, pod
from perdure_api.pod import Env
from perdure_api.spec import ResourcesSpec, TrainerSpec, TrainingJobSpec
from perdure_api.workflow import JobRef

Document = dict[str, Any]

USER_ID: Final = 65532
"""An image that would run as root runs as this user instead: restricted Pod Security wants it, and an image cannot
opt out."""
TOKEN_SECONDS: Final = 3600
GPU_RESOURCE: Final = "nvidia.com/gpu"
_SCRATCH_VOLUME: Final = "scratch"
_PROGRESS_VOLUME: Final = "perdure"
_OF_A_RESERVATION: Final = frozenset({"name", "image", "imagePullPolicy", "resources", "securityContext"})
_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_UNREACHABLE_SECONDS: Final = 6
"""Of a node that is back, the node controller takes away the taint that keeps new pods off at once, and the one that
ends pods when it next looks, every five seconds: what begins there in between must not be ended."""


@dataclass(frozen=True)
class PodDefaults:
    """What the installation, not the user, says about training pods."""

    trainer_image: str
    trainer_image_pull_policy: str = "IfNotPresent"
    store_env: Mapping[str, str] = field(default_factory=dict)
    """Plain settings of the object store: endpoint, region."""
    store_secret: str | None = None
    """Secret in the job's own namespace whose keys become environment variables: credentials. May be missing."""
    progress_url: str | None = None
    progress_ca: str | None = None
    """PEM. Without it nothing is told, and training goes on all the same."""
    image_pull_secrets: tuple[str, ...] = ()
    egress: tuple[Mapping[str, Any], ...] | None = None
    """What they may reach beside each other, as rules of a NetworkPolicy; None: they get no policy."""


def training_job(
    job: JobRef, spec: TrainingJobSpec, attempt: int, defaults: PodDefaults, kueue_queue: str = ""
) -> Document:
    """The Job of an attempt.

    Never retried by Kubernetes (backoffLimit 0, restartPolicy Never): what comes after an attempt is the workflow's
    decision. Owned by the TrainingJob, so that it goes with it even when nothing of ours runs any more.

    Args:
        job: The TrainingJob.
        spec: Its spec, completed.
        attempt: Number of the attempt.
        defaults: The installation's part.
        kueue_queue: The queue of Kueue that lets it run; empty: nobody is asked.
    """
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_JOB: names.label_value(job.name),
        names.LABEL_JOB_UID: job.uid,
        names.LABEL_ATTEMPT: str(attempt),
    }
    annotations = {names.ANNOTATION_JOB_NAME: job.name}
    nodes = spec.nodes
    pod_annotations = dict(annotations)
    if defaults.progress_ca:
        pod_annotations[names.ANNOTATION_PROGRESS_CA] = defaults.progress_ca
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(job.name, attempt),
            "namespace": job.namespace,
            # Not on the pods: Kueue would take each of them for a workload of its own.
            "labels": {**labels, names.LABEL_KUEUE_QUEUE: kueue_queue} if kueue_queue else labels,
            "annotations": annotations,
            "ownerReferences": [_owner(job)],
        },
        "spec": {
            **({"suspend": True} if kueue_queue else {}),
            "backoffLimit": 0,
            "completions": nodes,
            "parallelism": nodes,
            "completionMode": "Indexed",
            "template": {
                "metadata": {"labels": labels, "annotations": pod_annotations},
                "spec": _pod_spec(job, spec, attempt, defaults),
            },
        },
    }


def reservation(job: JobRef, spec: TrainingJobSpec, nodes: int, defaults: PodDefaults) -> Document:
    """A Job whose pods do nothing where an attempt's pods could run, as many as there are nodes to wait for."""
    document = training_job(job, spec, names.RESERVATION, defaults)
    document["spec"] |= {"completions": nodes, "parallelism": nodes}
    pod_spec = document["spec"]["template"]["spec"]
    (container,) = pod_spec["containers"]
    kept = {
        key: container[key]
        for key in ("name", "image", "resources", "securityContext", "imagePullPolicy")
        if key in container
    }
    pod_spec["containers"] = [{**kept, "command": ["sleep", "infinity"]}]
    pod_spec |= {"volumes": [], "terminationGracePeriodSeconds": 0}
    pod_spec.pop("subdomain", None)
    return document


def rank_service(job: JobRef) -> Document:
    """The Service by which pods of several nodes find rank 0: one for all attempts, for each pod has its own name.

    It has no address: it only names each pod, also before that is ready, for ranks wait for each other.
    """
    selector = {names.LABEL_JOB_UID: job.uid}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.service_name(job.name),
            "namespace": job.namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
                names.LABEL_JOB: names.label_value(job.name),
                **selector,
            },
            "annotations": {names.ANNOTATION_JOB_NAME: job.name},
            "ownerReferences": [_owner(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector,
            "ports": [{"name": "rank-0", "port": pod.MASTER_PORT}],
        },
    }


def network_policy(job: JobRef, egress: Sequence[Mapping[str, Any]]) -> Document:
    """The NetworkPolicy around the pods of a job, of whichever attempt: each other, and what the installation names.

    Owned by the TrainingJob, and never deleted by us: it must hold for as long as a pod may run, also for one on a
    node that does not answer.
    """
    ours = {"podSelector": {"matchLabels": {names.LABEL_JOB_UID: job.uid}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names.network_policy_name(job.name, job.uid),
            "namespace": job.namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
                names.LABEL_JOB: names.label_value(job.name),
                names.LABEL_JOB_UID: job.uid,
            },
            "annotations": {names.ANNOTATION_JOB_NAME: job.name},
            "ownerReferences": [_owner(job)],
        },
        "spec": {
            **ours,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [ours]}],
            "egress": [{"to": [ours]}, *(dict(rule) for rule in egress)],
        },
    }


def needs_service(spec: TrainingJobSpec) -> bool:
    """Whether the pods of a job must find each other."""
    return spec.nodes > 1


def _owner(job: JobRef) -> Document:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
    }


def _pod_spec(job: JobRef, spec: TrainingJobSpec, attempt: int, defaults: PodDefaults) -> Document:
    trainer, resources = spec.trainer or TrainerSpec(), spec.resources or ResourcesSpec()
    result: Document = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, spec, attempt, defaults)],
        "volumes": [{"name": _SCRATCH_VOLUME, "emptyDir": {}}, *_progress_volume(defaults)],
    }
    if needs_service(spec):
        result["subdomain"] = names.service_name(job.name)
    if trainer.service_account_name:
        result["serviceAccountName"] = trainer.service_account_name
    if resources.node_selector:
        result["nodeSelector"] = dict(resources.node_selector)
    if tolerations := [*(toleration.to_wire() for toleration in resources.tolerations), *_impatience(spec)]:
        result["tolerations"] = tolerations
    if defaults.image_pull_secrets:
        result["imagePullSecrets"] = [{"name": name} for name in defaults.image_pull_secrets]
    return result


def _impatience(spec: TrainingJobSpec) -> list[Document]:
    """Has the pod of a trainer that can be fenced replaced as soon as its node is given up.

    The cluster has waited by then (40 s, unless set up otherwise), and would leave the pod there for five minutes.
    """
    given = (spec.resources or ResourcesSpec()).tolerations
    if not spec.built_in or any(toleration.key in {None, _UNREACHABLE} for toleration in given):
        return []
    return [
        {"key": _UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _UNREACHABLE_SECONDS}
    ]


def _container(job: JobRef, spec: TrainingJobSpec, attempt: int, defaults: PodDefaults) -> Document:
    trainer = spec.trainer or TrainerSpec()
    mounts: list[Document] = [
        {"name": _SCRATCH_VOLUME, "mountPath": pod.SCRATCH_MOUNT},
        {"name": _SCRATCH_VOLUME, "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 - the container's own
    ]
    if _progress_volume(defaults):
        mounts.append({"name": _PROGRESS_VOLUME, "mountPath": pod.PROGRESS_MOUNT, "readOnly": True})
    result: Document = {
        "name": pod.CONTAINER_NAME,
        "image": trainer.image or defaults.trainer_image,
        "env": _environment(job, spec, attempt, defaults),
        "resources": _resources(spec.resources or ResourcesSpec()),
        "volumeMounts": mounts,
        "terminationMessagePath": pod.TERMINATION_MESSAGE_PATH,
        # A trainer that left no word of its own: the end of its log is better than nothing.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": spec.built_in,
        },
    }
    if not trainer.image:
        result["imagePullPolicy"] = defaults.trainer_image_pull_policy
    if trainer.command:
        result["command"] = list(trainer.command)
    if trainer.args:
        result["args"] = list(trainer.args)
    if defaults.store_secret:
        result["envFrom"] = [{"secretRef": {"name": defaults.store_secret, "optional": True}}]
    return result


def _environment(job: JobRef, spec: TrainingJobSpec, attempt: int, defaults: PodDefaults) -> list[Document]:
    ours: dict[str, str] = {
        **defaults.store_env,
        "HOME": pod.SCRATCH_MOUNT,
        Env.JOB_NAME: job.name,
        Env.JOB_NAMESPACE: job.namespace,
        Env.JOB_UID: job.uid,
        Env.ATTEMPT: str(attempt),
        Env.SPEC: json.dumps(_told(spec), separators=(",", ":")),
        Env.SCRATCH: pod.SCRATCH_MOUNT,
    }
    if spec.output:
        ours[Env.RUN_URI] = names.run_uri(spec.output.uri, job.uid)
    if defaults.progress_url and defaults.progress_ca:
        ours |= {
            Env.PROGRESS_URL: defaults.progress_url,
            Env.PROGRESS_TOKEN_FILE: pod.PROGRESS_TOKEN_FILE,
            Env.PROGRESS_CA_FILE: pod.PROGRESS_CA_FILE,
            Env.KUBEFLOW_URL: defaults.progress_url,
            Env.KUBEFLOW_TOKEN: pod.PROGRESS_TOKEN_FILE,
            Env.KUBEFLOW_CA_CERT: pod.PROGRESS_CA_FILE,
        }
    theirs = (spec.trainer or TrainerSpec()).env
    overridden = {variable.name for variable in theirs}
    return [
        *({"name": str(name), "value": _literally(value)} for name, value in ours.items() if name not in overridden),
        *(variable for variable in _ranks(job, spec, attempt) if variable["name"] not in overridden),
        *(variable.to_wire() for variable in theirs),
    ]


def _told(spec: TrainingJobSpec) -> Document:
    """The spec as the trainer gets it. One node is not worth a word: images that know of no other number still fit.

    Nor is what only the control plane acts on, and may change while the trainer runs.
    """
    told = spec.to_wire()
    for name in ("suspend", "priority", "deletionPolicy"):
        told.pop(name)
    resources = told.get("resources", {})
    for name in ("minNodes", "regrow", "alternatives", "ephemeralStorage", *(["nodes"] if spec.nodes == 1 else [])):
        resources.pop(name, None)
    return told


def _ranks(job: JobRef, spec: TrainingJobSpec, attempt: int) -> list[Document]:
    """By what several pods know which of them they are, and where rank 0 is: torchrun's variables."""
    resources = spec.resources or ResourcesSpec()
    if resources.nodes == 1:
        return []
    processes = 1 if spec.built_in else max(1, resources.gpus_per_node)
    plain = {
        Env.NNODES: str(resources.nodes),
        Env.NPROC_PER_NODE: str(processes),
        Env.MASTER_ADDR: f"{names.job_name(job.name, attempt)}-0.{names.service_name(job.name)}",
        Env.MASTER_PORT: str(pod.MASTER_PORT),
    }
    index = f"metadata.annotations['{names.ANNOTATION_COMPLETION_INDEX}']"
    return [
        *({"name": str(name), "value": value} for name, value in plain.items()),
        {"name": str(Env.NODE_RANK), "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ]


def _literally(value: str) -> str:
    """A value that the kubelet leaves as it is: it replaces $(NAME) in environment values, and $$ by $."""
    return value.replace("$", "$$")


def _resources(resources: ResourcesSpec) -> Document:
    amounts: dict[str, str] = {}
    if resources.cpu is not None:
        amounts["cpu"] = str(resources.cpu)
    if resources.memory is not None:
        amounts["memory"] = str(resources.memory)
    if resources.ephemeral_storage is not None:
        amounts["ephemeral-storage"] = str(resources.ephemeral_storage)
    if resources.gpus_per_node:
        amounts[GPU_RESOURCE] = str(resources.gpus_per_node)
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _progress_volume(defaults: PodDefaults) -> list[Document]:
    """Token and authority in one volume; the authority comes by the pod's own annotation, so no object is needed."""
    if not (defaults.progress_url and defaults.progress_ca):
        return []
    token = {
        "audience": pod.PROGRESS_TOKEN_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
        "path": pod.PROGRESS_TOKEN_FILE.rsplit("/", 1)[1],
    }
    authority = {
        "path": pod.PROGRESS_CA_FILE.rsplit("/", 1)[1],
        "fieldRef": {"fieldPath": f"metadata.annotations['{names.ANNOTATION_PROGRESS_CA}']"},
    }
    sources = [{"serviceAccountToken": token}, {"downwardAPI": {"items": [authority]}}]
    return [{"name": _PROGRESS_VOLUME, "projected": {"sources": sources}}]

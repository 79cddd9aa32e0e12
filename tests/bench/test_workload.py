"""What is measured is what it is called."""

from __future__ import annotations

import pytest
import yaml

from bench.cluster import workload
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_workers import manifests

PLAIN = """
apiVersion: batch/v1
kind: Job
metadata: {name: j1}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      nodeSelector: {type: kwok}
      tolerations: [{key: kwok.x-k8s.io/node, operator: Equal, value: fake, effect: NoSchedule}]
      containers: [{name: trainer, image: "bench/nothing:1", command: ["true"]}]
"""
OURS = """
apiVersion: perdure.dev/v1alpha1
kind: TrainingJob
metadata: {name: j1}
spec:
  trainer: {image: "bench/nothing:1", command: ["true"]}
  resources:
    nodeSelector: {type: kwok}
    tolerations: [{key: kwok.x-k8s.io/node, operator: Equal, value: fake, effect: NoSchedule}]
"""


@pytest.mark.parametrize(("kind", "document"), [(workload.PLAIN, PLAIN), (workload.OURS, OURS)])
def test_a_job_of_each_kind(kind: str, document: str) -> None:
    assert workload.manifest(kind, "j1") == yaml.safe_load(document)


def test_both_kinds_have_the_same_pod_as_far_as_the_user_says() -> None:
    spec = TrainingJobSpec.model_validate(workload.training_job("j1", workload.STAYS)["spec"])
    attempt = manifests.training_job(
        JobRef(namespace="n", name="j1", uid="uid"), spec, 1, manifests.PodDefaults("unused")
    )
    ours, plain = (
        document["spec"]["template"]["spec"] for document in (attempt, workload.plain_job("j1", workload.STAYS))
    )

    for key in ("restartPolicy", "automountServiceAccountToken", "nodeSelector", "tolerations"):
        assert ours[key] == plain[key], key
    for key in ("name", "image", "command"):
        assert ours["containers"][0][key] == plain["containers"][0][key], key

"""`helm test`, as somebody who has just installed Perdure types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.commands import install
from tests.cluster.conftest import SYSTEM, Kubectl, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

NAME = "perdure-test"
PATIENCE_SECONDS = 15


def helm_test(system: Kubectl) -> tuple[int, str]:
    """Its exit status, and what it and the pod's log say."""
    program = Path(sys.executable).with_name("helm")
    result = subprocess.run(
        [program, "test", "perdure", "--namespace", SYSTEM, "--logs", "--timeout", "5m"],
        env={**os.environ, "KUBECONFIG": system.kubeconfig},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def test_it_has_a_job_go_all_the_way_and_leaves_only_its_log(system: Kubectl) -> None:
    status, said = helm_test(system)

    assert status == 0, said
    assert "Perdure works." in said
    assert "Succeeded" in said
    assert system.items("trainingjobs", f"--field-selector=metadata.name={NAME}") == []
    for kind in ("serviceaccount", "role", "rolebinding"):
        assert system.run("get", kind, NAME).returncode == 1
    assert system.json("get", "pod", NAME)["status"]["phase"] == "Succeeded"


def test_it_can_be_repeated(system: Kubectl) -> None:
    assert helm_test(system)[0] == 0


@pytest.mark.alone
def test_without_an_operator_it_says_that_nobody_looks(system: Kubectl) -> None:
    install("--set", f"test.timeoutSeconds={PATIENCE_SECONDS}")
    system("scale", "deployment/perdure-operator", "--replicas=0")
    try:
        operators = ("pods", "-l", "app.kubernetes.io/component=operator")
        wait_until(lambda: system.items(*operators) == [], 60, lambda: "the operator does not end")
        status, said = helm_test(system)
    finally:
        system("scale", "deployment/perdure-operator", "--replicas=1")
        install()
    system("rollout", "status", "deployment/perdure-operator", "--timeout=120s")

    assert status == 1
    assert f"nobody has looked at TrainingJob {SYSTEM}/{NAME} within {PATIENCE_SECONDS} s" in said
    assert f"TrainingJob {SYSTEM}/{NAME} is deleted." in said

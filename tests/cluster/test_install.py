"""Upgrading, uninstalling and reinstalling Perdure under jobs that run."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.cluster.commands import CHART, helm, install
from tests.cluster.conftest import ROOT, Document, Jobs, Kubectl, condition, phase, step, wait_until
from tests.cluster.wishes import long_training

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

IMAGES = ROOT / "build" / "images.json"


def test_jobs_do_not_feel_an_upgrade_outlive_uninstalling_and_go_on_after_reinstalling(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    jobs.create("stays", long_training(tiny_inputs, maxSteps=3500))
    jobs.until("stays", lambda job: phase(job) == "Running" and step(job) > 0)
    jobs.create("finished", jobs.own("true"))
    before = jobs.finished("finished")

    install("--set", "logLevel=debug")
    reached = step(jobs.get("stays"))
    jobs.until("stays", lambda job: step(job) > reached)
    helm(system, "uninstall", "perdure", "--wait")
    try:
        pods = jobs.pods("stays")
        assert [pod["status"]["phase"] for pod in pods] == ["Running"]
        assert jobs.get("finished")["status"] == before["status"]
    finally:
        install()
    job = jobs.finished("stays", seconds=300)

    assert condition(job, "Succeeded")["status"] == "True", job["status"]
    assert jobs.get("finished")["status"] == before["status"]
    assert len(job["status"]["attempts"]) == 1


def test_an_installation_that_was_cut_off_does_not_stand_in_the_way(system: Kubectl) -> None:
    unfinished = ["get", "secret", "-o", "name", "-l", "owner=helm,name=perdure,status=pending-upgrade"]
    with subprocess.Popen(
        [CHART, "--set", "logLevel=debug"], stdout=subprocess.DEVNULL, start_new_session=True
    ) as installing:
        wait_until(lambda: bool(system(*unfinished)), 60, lambda: "no upgrade has begun")
        os.killpg(installing.pid, signal.SIGKILL)

    said = install()

    assert "which was cut off" in said
    assert system(*unfinished) == ""


def test_components_that_are_told_to_stop_do_so_at_once_and_with_success(system: Kubectl) -> None:
    components = "app.kubernetes.io/component in (operator,worker)"
    before = {pod["metadata"]["name"] for pod in system.items("pods", "-l", components)}
    state = 'jsonpath={.metadata.name} {.status.containerStatuses[0].state.terminated.exitCode}{"\\n"}'
    watch = system.command("get", "pods", "-l", components, "--watch", "-o", state)
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watching:
        try:
            system("delete", "pod", "-l", components, "--timeout=25s")
            ended: dict[str, str] = {}
            for line in watching.stdout or []:
                name, _, code = line.strip().partition(" ")
                if code and name in before:
                    ended[name] = code
                if ended.keys() == before:
                    break
        finally:
            watching.kill()

    assert set(ended.values()) == {"0"}, ended
    system("rollout", "status", "deployment/perdure-operator", "--timeout=60s")
    system("rollout", "status", "deployment/perdure-worker", "--timeout=60s")


def test_helm_and_flux_see_a_job_as_done_only_when_it_is(jobs: Jobs) -> None:
    """By kstatus' rules: an observed generation, and neither Reconciling nor Stalled."""
    jobs.create("kstatus", jobs.own("sleep", "3"))
    fresh = jobs.get("kstatus")
    done = jobs.finished("kstatus")

    assert condition(fresh, "Reconciling")["status"] == "True"
    assert condition(done, "Reconciling")["status"] == "False"
    assert condition(done, "Stalled") == {}
    assert done["status"]["observedGeneration"] == done["metadata"]["generation"]


def test_the_images_that_run_are_the_ones_of_this_checkout(system: Kubectl) -> None:
    tag = json.loads(IMAGES.read_text())["image"]["cpu"]["tag"]

    wait_until(
        lambda: all(tag in image for image in running_images(system)),
        60,
        lambda: f"{running_images(system)} is not {tag}",
    )


def running_images(system: Kubectl) -> list[str]:
    return [
        pod["spec"]["containers"][0]["image"]
        for component in ("operator", "worker")
        for pod in system.items("pods", "-l", f"app.kubernetes.io/component={component}")
    ]

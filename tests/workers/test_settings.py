from __future__ import annotations

import os
import subprocess
import sys

import pytest
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion

from perdure_control.settings import SettingsError
from perdure_workers.process import deployment_config
from perdure_workers.settings import Pool, WorkerSettings


def test_without_a_build_workers_have_no_version() -> None:
    settings = WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": ""})

    assert settings.version is None
    assert deployment_config(settings) is None


def test_a_workflow_stays_with_the_build_that_it_began_on() -> None:
    config = deployment_config(WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": "0.1.0-1a2b3c4d"}))

    assert config
    assert config.version == WorkerDeploymentVersion("perdure", "0.1.0-1a2b3c4d")
    assert config.use_worker_versioning
    assert config.default_versioning_behavior is VersioningBehavior.PINNED


@pytest.mark.parametrize("build", ["a b", "-a", "a:b", "a" * 64])
def test_a_build_is_what_a_label_may_be(build: str) -> None:
    with pytest.raises(SettingsError, match=f'PERDURE_WORKER_BUILD is "{build}", expected at most 63 letters'):
        WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": build})


@pytest.mark.parametrize(
    ("pool", "told", "expected"),
    [
        (Pool.CPU, {}, 20),
        (Pool.GPU, {}, 1),
        (Pool.GPU, {"PERDURE_WORKER_SLOTS": "4"}, 4),
        (Pool.CPU, {"PERDURE_WORKER_SLOTS": "50"}, 50),
    ],
    ids=["CPU", "GPU", "GPU, told", "CPU, told"],
)
def test_a_pool_has_slots_of_its_own(pool: Pool, told: dict[str, str], expected: int) -> None:
    assert WorkerSettings.from_environment(told, pool).slots == expected
    assert WorkerSettings.from_environment(told, pool, "3").slots == 3, "the command says more than the environment"


@pytest.mark.parametrize(
    ("pool", "slots", "most"),
    [
        (pool, slots, most)
        for pool, most in ((Pool.GPU, 4), (Pool.CPU, 500))
        for slots in ("0", "1000", "-1", "two", "²")
    ],
)
def test_slots_that_make_no_sense_are_refused(pool: Pool, slots: str, most: int) -> None:
    expected = rf'"{slots}", expected a whole number from 1 to {most} for the {pool} pool \('
    with pytest.raises(SettingsError, match=f"--slots is {expected}"):
        WorkerSettings.from_environment({}, pool, slots)
    with pytest.raises(SettingsError, match=f"PERDURE_WORKER_SLOTS is {expected}"):
        WorkerSettings.from_environment({"PERDURE_WORKER_SLOTS": slots}, pool)


WITHOUT_TORCH = """
import sys
import perdure_workers.main, perdure_workers.process
print("torch" in sys.modules, flush=True)
sys.modules["torch"] = sys.modules["perdure_inference"] = None
sys.argv = ["perdure-worker", "--pool", "gpu"]
sys.exit(perdure_workers.main.main())
"""


@pytest.fixture(scope="module")
def in_the_cpu_image() -> subprocess.CompletedProcess[str]:
    """A worker of the GPU pool where there is no torch; before, it says whether the CPU pool has imported it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], env=environment, capture_output=True, text=True, check=False
    )


def test_without_what_models_need_the_gpu_pool_says_so(in_the_cpu_image: subprocess.CompletedProcess[str]) -> None:
    assert in_the_cpu_image.returncode == 64
    assert in_the_cpu_image.stderr.startswith('perdure-worker: --pool is "gpu" and ')
    assert "expected what models need: run the image perdure-gpu" in in_the_cpu_image.stderr


def test_the_cpu_pool_imports_nothing_that_models_need(in_the_cpu_image: subprocess.CompletedProcess[str]) -> None:
    assert in_the_cpu_image.stdout == "False\n"

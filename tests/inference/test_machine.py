from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure_inference.machine import prepare_environment, usable_cpus

BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param({"cpu.max": "100000 100000\n"}, 1, id="v2 one"),
        pytest.param({"cpu.max": "20000 100000\n"}, 1, id="v2 a fifth is one"),
        pytest.param({"cpu.max": "110000 100000\n"}, min(2, BOUND), id="v2 a little more than one"),
        pytest.param({"cpu.max": "max 100000\n"}, BOUND, id="v2 no limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1, id="v1 half"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, BOUND, id="v1 no limit"),
        pytest.param({}, BOUND, id="no cgroups"),
        pytest.param({"cpu.max": "99900000 100000\n"}, BOUND, id="more than there are"),
    ],
)
def test_uses_the_cpus_that_the_container_may_use(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert usable_cpus(tmp_path) == cpus


def test_libraries_stay_offline_and_in_scratch(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prepare_environment(environment, tmp_path / "scratch")
    assert environment["HF_HUB_OFFLINE"] == "1"
    for name in ("HOME", "HF_HOME", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert environment[name].startswith(str(tmp_path / "scratch"))


def test_what_the_user_has_set_is_kept(tmp_path: Path) -> None:
    environment = {"OMP_NUM_THREADS": "7", "HOME": "/somewhere"}
    prepare_environment(environment, tmp_path)
    assert (environment["OMP_NUM_THREADS"], environment["HOME"]) == ("7", "/somewhere")

"""CPU time and memory, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cluster import usage
from bench.cluster.usage import Process, Usage

UID = "0d3b1c1e-7f2f-4c0e-9d6c-3f0b6a6b8a11"


def stat(name: str = "worker", user: int = 150, system: int = 50, start: int = 777, pages: int = 10) -> str:
    rest = ["S", "1", *"0" * 9, str(user), str(system), *"0" * 6, str(start), "999", str(pages), *"0" * 20]
    assert len(rest) > 22
    return f"42 ({name}) {' '.join(rest)}"


def machine(folder: Path, **processes: tuple[str, str, str]) -> Path:
    for pid, (program, group, told) in processes.items():
        (folder / pid[1:]).mkdir()
        (folder / pid[1:] / "comm").write_text(f"{program}\n")
        (folder / pid[1:] / "cgroup").write_text(f"0::/perdure-devcluster/n1/{group}\n")
        (folder / pid[1:] / "stat").write_text(told)
    (folder / "sys").mkdir()
    return folder


@pytest.mark.parametrize("name", ["worker", "a (b) c", ") 1 2 3 ("])
def test_a_programs_name_cannot_confuse_the_reading(name: str) -> None:
    assert usage.parse(stat(name)) == (777, Usage(200 / usage.TICKS, 10 * usage.PAGE_BYTES))


def test_our_own_process_is_read_as_the_kernel_tells_it() -> None:
    ours = usage.process(os.getpid())
    assert ours

    told = usage.of([ours])

    assert 0 < told.cpu_seconds <= sum(os.times()[:2]) + 0.1
    assert told.bytes_ > 1 << 20


@pytest.mark.parametrize("separator", ["-", "_"])
def test_processes_of_a_pod_are_found_by_its_control_group(tmp_path: Path, separator: str) -> None:
    group = f"kubepods/burstable/pod{UID.replace('-', separator)}/c"
    proc = machine(
        tmp_path,
        p1=("python", group, stat(start=1)),
        p2=("pause", group, stat(start=2)),
        p3=("python", "kubepods/podother/c", stat(start=3)),
    )

    assert usage.in_pods({UID: "worker", "gone": "operator"}, proc) == {"worker": [Process(1, 1)], "operator": []}


def test_several_processes_are_one_sum(tmp_path: Path) -> None:
    proc = machine(tmp_path, p1=("a", "", stat(start=1)), p2=("b", "", stat(start=2, user=0, system=0)))

    assert usage.of([Process(1, 1), Process(2, 2)], proc) == Usage(200 / usage.TICKS, 20 * usage.PAGE_BYTES)


@pytest.mark.parametrize("process", [Process(9, 1), Process(1, 2)], ids=["ended", "its pid taken by another"])
def test_a_process_that_is_no_more_takes_its_time_with_it(tmp_path: Path, process: Process) -> None:
    proc = machine(tmp_path, p1=("a", "", stat(start=1)))

    with pytest.raises(ProcessLookupError):
        usage.of([process], proc)


def test_ports_that_are_listened_on_are_told_from_connections() -> None:
    table = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1C41 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 00000000000000000000000000000000:9C40 00000000000000000000000000000000:0000 0A 0 0 0 0 0 3 1 0
"""
    assert usage.listening_ports(table) == [7233, 40000]

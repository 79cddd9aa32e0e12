from __future__ import annotations

from pathlib import Path

import pytest

from perdure_trainer.memory import MemoryKills, killed_since, kills_here

VERSION_1 = "5:devices:/\n4:cpu,memory:/user/shell\n0::/\n"
VERSION_2 = "0::/user.slice/shell.scope\n"


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("b0071d\n")
    return path


@pytest.mark.parametrize(
    ("membership", "file", "content"),
    [
        (VERSION_2, "user.slice/shell.scope/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 9\n"),
        (VERSION_2, "memory.events", "oom_kill 3\n"),
        (VERSION_1, "memory/user/shell/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (VERSION_1, "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
    ],
    ids=["v2", "v2 in a container", "v1", "v1 in a container"],
)
def test_kills_are_counted_by_the_group_of_this_process(
    tmp_path: Path, boot: Path, membership: str, file: str, content: str
) -> None:
    (tmp_path / "membership").write_text(membership)
    path = tmp_path / "cgroups" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    found = kills_here(tmp_path / "cgroups", tmp_path / "membership", boot)
    assert found == MemoryKills(group=f"b0071d {path.stat().st_ino}", count=3)


def test_where_nobody_counts_nothing_is_said(tmp_path: Path, boot: Path) -> None:
    (tmp_path / "membership").write_text(VERSION_2)
    assert kills_here(tmp_path, tmp_path / "membership", boot) is None
    assert kills_here(tmp_path, tmp_path / "nowhere", boot) is None


@pytest.mark.parametrize(
    ("before", "now", "killed"),
    [
        (MemoryKills(group="a", count=1), MemoryKills(group="a", count=3), 2),
        (MemoryKills(group="a", count=3), MemoryKills(group="a", count=3), 0),
        (MemoryKills(group="a", count=1), MemoryKills(group="b", count=3), 0),
        (None, MemoryKills(group="a", count=3), 0),
        (MemoryKills(group="a", count=1), None, 0),
    ],
    ids=["two", "none", "another group", "never looked", "no longer counted"],
)
def test_only_what_is_new_in_the_same_group_counts(
    before: MemoryKills | None, now: MemoryKills | None, killed: int
) -> None:
    assert killed_since(before, now) == killed

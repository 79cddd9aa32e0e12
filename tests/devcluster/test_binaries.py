"""The key of the binaries' cache, and what is pinned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perdure_devcluster import binaries
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import SOURCE

SOURCES = [("go.mod", b"module a"), ("main.go", b"package main")]


def test_the_key_does_not_depend_on_the_order_of_files() -> None:
    assert binaries.cache_key(SOURCES, "go1", ["-s"]) == binaries.cache_key(SOURCES[::-1], "go1", ["-s"])


@pytest.mark.parametrize(
    ("sources", "go_version", "flags"),
    [
        pytest.param([("go.mod", b"module b"), SOURCES[1]], "go1", ["-s"], id="content"),
        pytest.param([("go.mod", b"module a"), ("other.go", b"package main")], "go1", ["-s"], id="file name"),
        pytest.param(SOURCES, "go2", ["-s"], id="Go version"),
        pytest.param(SOURCES, "go1", ["-s", "-w"], id="flags"),
        pytest.param(SOURCES[:1], "go1", ["-s"], id="missing file"),
    ],
)
def test_the_key_changes_with_everything_that_a_binary_is_made_from(
    sources: list[tuple[str, bytes]], go_version: str, flags: list[str]
) -> None:
    assert binaries.cache_key(sources, go_version, flags) != binaries.cache_key(SOURCES, "go1", ["-s"])


def test_all_of_kubernetes_is_pinned_at_one_version() -> None:
    """A staging module at another version would build something that nobody has released."""
    minor = binaries.KUBERNETES_VERSION.removeprefix("1.")
    lines = (SOURCE / "go/go.mod").read_text().splitlines()
    replaced = [line.split(" => ")[1] for line in lines if " => " in line]
    assert len(replaced) == 31
    assert all(line.endswith(f" v0.{minor}") for line in replaced)
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in " ".join(lines)


def test_the_key_covers_every_source_of_the_module() -> None:
    covered = {path for path, _ in binaries.module_sources(SOURCE / "go")}
    assert {"go.mod", "go.sum", "cmd/pause/main.go", "cmd/coredns/main.go", "cmd/cri-image/main.go"} == covered


def test_kwok_is_pinned_where_it_cannot_decide_what_kubernetes_is_built_from() -> None:
    assert f"sigs.k8s.io/kwok v{binaries.KWOK_VERSION}" in (SOURCE / "kwok/go.mod").read_text()
    assert "sigs.k8s.io/kwok" not in (SOURCE / "go/go.mod").read_text()
    assert {path for path, _ in binaries.module_sources(SOURCE / "kwok")} == {"go.mod", "go.sum"}


def test_a_program_that_was_built_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def go(command: Sequence[str | Path], **_: object) -> str:
        if command[1] == "env":
            return "go1.26.8"
        made.append(str(command[-1]))
        Path(command[command.index("-o") + 1]).write_text("program")
        return ""

    monkeypatch.setattr(binaries, "run", go)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/go")

    first, second = binaries.build_kwok(tmp_path), binaries.build_kwok(tmp_path)

    assert first == second
    assert first.read_text() == "program"
    assert made == ["sigs.k8s.io/kwok/cmd/kwok"]


@pytest.mark.parametrize("version", ["go1.21.0", "go1.25", "go1.26.8", "go2.0", "devel go1.27-abc"])
def test_a_go_that_can_build_it_or_fetch_one_that_can_is_taken(version: str) -> None:
    binaries.check_go_version(version)


@pytest.mark.parametrize("version", ["go1.19.8", "go1.20"])
def test_an_older_go_is_refused_by_its_version(version: str) -> None:
    """It would stop minutes later at go.mod, with a sentence about its format."""
    with pytest.raises(DevclusterError, match=rf"found {version}, expected Go 1\.21 or newer"):
        binaries.check_go_version(version)

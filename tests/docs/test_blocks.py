"""The code blocks of the documentation, run as they stand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetBroken, Source
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.jsonl import line_records
from tests.cli import documents
from tests.conftest import ApiServer, binary
from tests.docs import markdown
from tests.docs.markdown import ROOT, Block
from tests.trainer import tiny

SHELL = ("sh", "bash", "shell", "console")
LANGUAGES = {*SHELL, "yaml", "python", "json", "text", "toml", "dockerfile"}
"""`text` is a picture, a refusal of a dataset, or what the shell block before it prints."""

NOT_RUN = {
    "make bench-control-plane": "minutes of a quiet machine with the cluster; its parts are tested in tests/bench",
    "make bench-watch": "the same, for most of an hour",
    "make bench-waiting": "the same, for half an hour",
    "make bench-temporal": "minutes of a quiet machine; tests/bench/temporal make a small run",
    "make bench-pools": "minutes of a quiet machine with the cluster; its parts are tested in tests/bench",
    "make bench-ingest": "minutes of a quiet machine; the workflow is tested in tests/workers/data",
    "python -m bench.scale": "needs raw results of the two; tests/bench/scale runs it on some",
    "make bench-inference": "minutes of a quiet machine; it is run by hand, and so is what it shows",
    "make bench-trainer": "minutes of a quiet machine; it is run by hand, and so is what it shows",
    "make demo   # a real two-node": "minutes; it is run by hand before a release, and so is what it shows",
    "devcluster/devcluster up": "tests/devcluster bring the cluster up",
    "docker build -f Dockerfile.cpu": "tests/chart/test_images.py builds them; there is no registry to push to",
    "CLUSTER=current REGISTRY=": "tests/examples/test_demo_cluster.py installs; there is no registry to pull from",
    "aws s3 cp --recursive model": "needs the AWS command line and a bucket",
    "pip install '.[cli]'": "asks a package index; this environment has it",
    "pip install '.[trainer]'": "asks a package index; this environment has it",
    "cat > trainingjob.yaml": "tests/docs/test_laptop.py follows that page",
    "python -m perdure_trainer": "tests/docs/test_laptop.py follows that page",
    "export PET_NNODES=2": "tests/docs/test_laptop.py follows that page",
    'aws s3 cp --recursive "$(kubectl': "needs the AWS command line and a bucket",
    "pip install '.[speech]'": "tests/docs/test_speech.py follows that page",
    "cat > speech/trainingjob.yaml": "tests/docs/test_speech.py follows that page",
    "python -m perdure_trainer --spec speech/": "tests/docs/test_speech.py follows that page",
    "perdure suspend bible": "tests/cluster/test_steering.py does it to jobs that run",
    "kubectl patch trainingjob bible": "tests/cluster/test_deletion.py does both; other pages need the job",
    "temporal worker deployment describe": "tests/cluster/test_versions.py asks it of an upgrade that goes on",
    "temporal workflow list": "tests/cluster/test_versions.py counts what it lists",
    "temporal workflow update-options": "tests/operator/test_worker_versions.py has the same done",
    "kubectl delete deployments --namespace": "tests/cluster/test_versions.py does it",
    "kubectl create secret generic temporal-api-key": "needs a Temporal Cloud; tests/chart render what is set",
    "kubectl create secret generic temporal-client": "needs a Temporal behind TLS; tests/control have one",
    "perdure dead-letters list": "needs work that failed; tests/cli/test_dead_letters.py does all of it",
    "perdure top --once": "needs a cluster and a Temporal that the reader reaches; tests/cli/test_top.py has both",
    "helm upgrade perdure charts/perdure": "needs other operators; tests/chart render what is set",
    "helm test perdure": "tests/cluster/test_helm_test.py has it run; there is nobody here to run its pod",
    "kubectl patch configmap argocd-cm": "there is no Argo CD; tests/examples/test_gitops.py has its Lua run",
    "kubectl kustomize --enable-helm": "tests/examples/test_gitops.py builds it; here Helm has installed the same",
    "kubectl get --raw": "needs a pod, or a scaler, that runs",
    'kubectl exec "$(kubectl get pods': "needs a pod that trains; tests/cluster/test_network_policies.py asks from one",
    "kubectl port-forward --namespace": "takes a fixed port of the machine and goes on in the background",
}
"""Beginnings of shell blocks that are not run, each with its reason. Every other one is."""

FOLLOWED = {
    "docs/guides/add-a-workflow.md": "tests/docs/test_add_a_workflow.py",
    "docs/guides/inference.md": "tests/docs/test_inference.py",
    "docs/guides/documents.md": "tests/docs/test_documents.py",
    "docs/guides/evaluate.md": "tests/docs/test_documents.py",
}
"""Pages that tests of their own follow from the first block to the last."""


def blocks(*languages: str) -> list[Block]:
    """Those of all other pages."""
    return [block for block in markdown.blocks(*languages) if block.page not in FOLLOWED]


def test_every_page_that_a_test_of_its_own_follows_has_that_test() -> None:
    assert all(
        (ROOT / test).exists() and Path(page).name in (ROOT / test).read_text() for page, test in FOLLOWED.items()
    )


def test_every_block_says_what_it_is() -> None:
    assert [block.place for block in markdown.blocks() if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.place)
def test_every_record_of_a_dataset_is_one(block: Block) -> None:
    uri = parse_uri("s3://b/train.jsonl")

    list(line_records(Extract(uri, [block.text.encode()]), RecordParser(Source(uri))))


def test_a_refusal_of_a_dataset_is_shown_as_it_is_said() -> None:
    shown = [" ".join(block.text.split()) for block in blocks("text") if _is_refusal(block)]
    uri = parse_uri("s3://perdure/datasets/chat/train/part-3.jsonl.gz")
    record = {"messages": [{"role": "user", "content": "Who?"}, {"role": "gpt", "content": "Moses."}]}
    content = b"\n" * 1206 + json.dumps(record).encode()

    with pytest.raises(DatasetBroken) as raised:
        list(line_records(Extract(uri, [content]), RecordParser(Source(uri))))

    assert shown == [str(raised.value)]


def test_every_reason_not_to_run_a_block_belongs_to_one() -> None:
    shell = blocks(*SHELL)

    assert [start for start in NOT_RUN if not any(block.text.startswith(start) for block in shell)] == []


# kubectl waits for a condition of the object's generation only.
SUCCEEDED = {
    **documents.SUCCEEDED,
    "conditions": [{**each, "observedGeneration": 1} for each in documents.SUCCEEDED["conditions"]],
}


@dataclass(frozen=True)
class Reader:
    """A person who types what the documentation says, on a machine that has what it asks for."""

    environment: dict[str, str]

    def types(self, block: Block) -> str:
        """What a shell block prints; it must succeed."""
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, f"{block.place}:\n{block.text}\n{result.stdout}{result.stderr}"
        return result.stdout


@pytest.fixture
def reader(api_server_without_perdure: ApiServer) -> Iterator[Reader]:
    """One whose chart brings the CRD, and whose TrainingJob `bible` succeeds as soon as it is there.

    Nothing on this API server would run it.
    """
    kubectl = binary("kubectl")
    environment = {
        **os.environ,
        "KUBECONFIG": str(api_server_without_perdure.kubeconfig),
        "PATH": f"{kubectl.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "STATUS": json.dumps({"status": SUCCEEDED}),
    }
    let_it_succeed = (
        # Its `wait --for=create` never learns of a CRD that came later.
        "until kubectl get trainingjob bible; do sleep 0.1; done > /dev/null 2>&1; "
        'exec kubectl patch trainingjob bible --subresource=status --type=merge --patch "$STATUS"'
    )
    with subprocess.Popen(["bash", "-c", let_it_succeed], env=environment, start_new_session=True) as process:
        yield Reader(environment)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.cluster
def test_every_shell_block_works_one_after_another_and_prints_what_is_shown(reader: Reader) -> None:
    typed: dict[str, str] = {}
    shown = ""
    for block in blocks(*SHELL, "text"):
        if block.language == "text":
            if not _is_picture(block) and not _is_refusal(block):
                assert _begins(block.text.splitlines()) == _begins(shown.splitlines()), block.place
        elif block.text not in typed and not block.text.startswith(tuple(NOT_RUN)):
            shown = typed[block.text] = reader.types(block)
    assert typed


def _is_picture(block: Block) -> bool:
    return any(sign in block.text for sign in "─►")


def _is_refusal(block: Block) -> bool:
    return block.text.startswith("dataset ")


def _begins(table: list[str]) -> list[list[str]]:
    """The head of the last table, and name and phase in the row below it: what does not change from run to run."""
    start = max(index for index, line in enumerate(table) if line.startswith("NAME"))
    return [table[start].split(), table[start + 1].split()[:2]]


@pytest.mark.cluster
@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.place)
def test_every_training_job_is_accepted(api_server: ApiServer, block: Block) -> None:
    said = api_server.kubectl(
        "create", "--dry-run=server", "-n", "kube-public", "-f", "-", document=yaml.safe_load(block.text)
    )

    assert said.startswith("trainingjob.perdure.dev/")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_every_program_runs_beside_a_model_and_its_adapter(block: Block, tmp_path: Path) -> None:
    tiny.write_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")

    result = subprocess.run(
        [sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("In the beginning")

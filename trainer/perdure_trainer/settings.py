"""What a run is told: by the pod's environment, or on a laptop by a TrainingJob's YAML. Parsed once, here."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from perdure_api.names import attempt_uri, run_uri
from perdure_api.pod import Env
from perdure_api.spec import (
    CheckpointSpec,
    DatasetSpec,
    DeadlinesSpec,
    LoraSpec,
    ModelSpec,
    TrainingJobSpec,
    TrainingSpec,
)
from perdure_api.trainingjob import SpecError, parse_spec
from perdure_api.uri import StoreUri, UriError, parse_uri
from perdure_trainer.failures import ConfigError, UsageError
from perdure_trainer.topology import Topology, topology

_NEEDED: Final = ("model", "dataset", "training")


@dataclass(frozen=True)
class ProgressSettings:
    """Where progress is told."""

    url: str
    token_file: Path | None
    ca_file: Path | None


@dataclass(frozen=True)
class Settings:
    """One attempt at one run."""

    job_uid: str
    job_name: str
    attempt: int
    run_uri: StoreUri
    """Folder of the run; this attempt writes below `attempt_uri` only."""
    scratch: Path
    """Folder for everything temporary."""
    model: ModelSpec
    dataset: DatasetSpec
    lora: LoraSpec
    training: TrainingSpec
    checkpoint: CheckpointSpec
    progress: ProgressSettings | None = None
    place: Topology = Topology()  # noqa: RUF009 - it is frozen
    """Which of several processes this one is."""
    start_seconds: int = DeadlinesSpec().start_seconds
    """How long to wait for the others."""

    @property
    def attempt_uri(self) -> StoreUri:
        """Folder of this attempt."""
        return parse_uri(attempt_uri(str(self.run_uri), self.attempt))

    @property
    def journal_folder(self) -> Path:
        """Where progress and curves are kept while training goes on: in the attempt's folder, where that is local."""
        return Path(self.attempt_uri.path) if self.attempt_uri.scheme == "file" else self.scratch / "journal"

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything in the spec that decides what comes out, apart from the content of model and data."""
        return {
            "lora": self.lora.to_wire(),
            "training": self.training.to_wire(),
            "dataset": {
                "format": self.dataset.format.value,
                "textField": self.dataset.text_field,
                "records": self.dataset.records.value,
                "evalFraction": None if self.dataset.eval_uri else self.dataset.eval_fraction,
            },
        }

    @property
    def recipe_fingerprint(self) -> str:
        """`sha256:…` of the recipe."""
        canonical = json.dumps(self.recipe, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings of a training pod.

    Raises:
        UsageError: a variable is missing or is not what it should be.
        ConfigError: the spec lacks what the built-in trainer needs.
    """
    try:
        spec = parse_spec(json.loads(_needed(environment, Env.SPEC)))
    except (ValueError, SpecError) as error:
        raise UsageError(f"{Env.SPEC} is no spec: {error}; the control plane sets it, so its version may differ") from (
            error
        )
    return _settings(
        spec,
        environment,
        job_uid=environment.get(Env.JOB_UID, ""),
        job_name=environment.get(Env.JOB_NAME, ""),
        attempt=_attempt(environment),
        run=_uri(Env.RUN_URI, _needed(environment, Env.RUN_URI)),
    )


def from_file(path: Path, output_dir: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a run without a cluster, as the first attempt; the caller counts later ones.

    Raises:
        UsageError: the file cannot be read or is no TrainingJob.
        ConfigError: the spec lacks what the built-in trainer needs.
    """
    try:
        document = yaml.safe_load(path.read_text())
        spec = parse_spec(document["spec"])
        name = str(document.get("metadata", {}).get("name", "trainingjob"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give --spec the file of a TrainingJob") from error
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is no TrainingJob ({error!r}); expected YAML with metadata and spec") from error
    except SpecError as error:
        raise UsageError(f"{path}: {error}") from error
    if output_dir is not None:
        output = str(StoreUri("file", "", str(output_dir.resolve())))
    elif spec.output is not None:
        output = spec.output.uri
    else:
        raise UsageError(f"{path} has no spec.output, and there is no --output-dir; give one of them")
    run = _uri("the output", run_uri(output, name))
    return _settings(spec, environment, job_uid=name, job_name=name, attempt=1, run=run)


def _settings(
    spec: TrainingJobSpec, environment: Mapping[str, str], *, job_uid: str, job_name: str, attempt: int, run: StoreUri
) -> Settings:
    model, dataset, training = spec.model, spec.dataset, spec.training
    if model is None or dataset is None or training is None:
        missing = " and ".join(name for name in _NEEDED if getattr(spec, name) is None)
        raise ConfigError(f"spec lacks {missing}, which the built-in trainer needs; add what is missing")
    if (training.max_steps is None) == (training.epochs is None):
        found = "neither" if training.epochs is None else "both"
        raise ConfigError(f"spec.training has {found} of maxSteps and epochs; give exactly one of them")
    for name, uri in (("model", model.uri), ("dataset", dataset.uri), ("dataset", dataset.eval_uri)):
        if uri is not None:
            _uri(f"spec.{name}", uri)
    return Settings(
        job_uid=job_uid,
        job_name=job_name,
        attempt=attempt,
        run_uri=run,
        scratch=Path(environment.get(Env.SCRATCH) or tempfile.mkdtemp(prefix="perdure-")),
        model=model,
        dataset=dataset,
        lora=spec.lora or LoraSpec(),
        training=training,
        checkpoint=spec.checkpoint or CheckpointSpec(),
        progress=_progress(environment),
        place=topology(environment),
        start_seconds=(spec.deadlines or DeadlinesSpec()).start_seconds,
    )


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise UsageError(f"{name} is not set; start training pods through a TrainingJob, or use --spec on a laptop")
    return value


def _attempt(environment: Mapping[str, str]) -> int:
    text = _needed(environment, Env.ATTEMPT)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{Env.ATTEMPT} is {text!r}; expected a whole number from 1")
    return int(text)


def _uri(what: str, text: str) -> StoreUri:
    try:
        return parse_uri(text)
    except UriError as error:
        raise ConfigError(f"{what}: {error}") from error


def _progress(environment: Mapping[str, str]) -> ProgressSettings | None:
    url = environment.get(Env.PROGRESS_URL)
    if not url:
        return None
    token_file, ca_file = environment.get(Env.PROGRESS_TOKEN_FILE), environment.get(Env.PROGRESS_CA_FILE)
    return ProgressSettings(url, Path(token_file) if token_file else None, Path(ca_file) if ca_file else None)

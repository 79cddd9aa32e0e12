"""One attempt, from model and data to the adapter: the one place where everything is made and put together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import structlog
import torch

from perdure_api.conditions import Reason
from perdure_api.pod import TerminationMessage
from perdure_api.progress import NOTICE_LIMIT_CHARACTERS, Command, Notice, NoticeReason, ProgressReply
from perdure_data.model_files import fetch_model
from perdure_trainer import state
from perdure_trainer.checkpoints.payload import shared
from perdure_trainer.checkpoints.repository import Committed, Repository
from perdure_trainer.checkpoints.writer import CheckpointWriter
from perdure_trainer.console import ProgressLine
from perdure_trainer.data.order import Order
from perdure_trainer.dataset import DatasetPreparation
from perdure_trainer.distributed import joined
from perdure_trainer.evaluation import Evaluation, evaluate
from perdure_trainer.failures import Diverged
from perdure_trainer.journal.run_journal import RunJournal
from perdure_trainer.loop import StepReport, Training, Wishes
from perdure_trainer.losses import Losses
from perdure_trainer.memory import killed_since, kills_here
from perdure_trainer.models import kind_of
from perdure_trainer.progress.report import eta_seconds, progress_report
from perdure_trainer.progress.reporter import ProgressReporter
from perdure_trainer.result import adapter_uri, result_document, result_uri, upload_folder, write_result
from perdure_trainer.schedule import total_steps
from perdure_trainer.state import Position

if TYPE_CHECKING:
    from perdure_data.stores import Stores
    from perdure_trainer.distributed import Ranks
    from perdure_trainer.models.contract import Corpus, TrainableModel
    from perdure_trainer.patience import Patience
    from perdure_trainer.settings import Settings
    from perdure_trainer.stopping import StopSignal

_log = structlog.get_logger()
_LAST_REPORT_SECONDS: Final = 3.0
_LOG_SECONDS: Final = 10.0


@dataclass(frozen=True)
class _Asked:
    """Somebody wants a checkpoint."""

    since_step: int
    """One of this step, or of a later one, will do."""
    reason: str


class Run:
    """One attempt. `last_words` is right at any moment, also when `finish` ends in an exception."""

    def __init__(self, settings: Settings, stores: Stores, stop: StopSignal, patience: Patience) -> None:
        self._settings = settings
        self._stores = stores
        self._stop = stop
        self._patience = patience
        self._preparation = DatasetPreparation(settings, stores, patience)
        self._wishes = Wishes()
        self._line = ProgressLine()
        # Rank 0 speaks for all.
        tells = settings.progress if settings.place.leads else None
        self._reporter = ProgressReporter(tells, self._on_command) if tells else None
        self._journal = RunJournal(settings, stores) if settings.place.leads else None
        self._losses = Losses()
        self._writer: CheckpointWriter | None = None
        self._from_step: int | None = None
        self._from_checkpoint: str | None = None
        self._step: int | None = None
        self._logged_at: datetime | None = None
        self._asked: _Asked | None = None

    def finish(self) -> TerminationMessage:
        """Trains, evaluates and writes the result; the last words of a success.

        Raises:
            Exception: everything that `failure_of` knows.
        """
        settings = self._settings
        with joined(settings.place, settings.recipe_fingerprint, settings.start_seconds, self._stop) as ranks:
            return self._finish(ranks)

    def _finish(self, ranks: Ranks) -> TerminationMessage:
        model = self._load_model()
        dataset = self._preparation.prepare(model)
        corpus = dataset.corpus
        fingerprints = {**dataset.fingerprints, **model.fingerprints, "config": self._settings.recipe_fingerprint}
        with self._stop.deferred():
            position = self._train(model, corpus, fingerprints, ranks)
            if not ranks.place.leads:
                return self.last_words(f"rank {ranks.place.rank} has done its part; rank 0 writes the result")
            base, adapted = self._evaluate(model, corpus)
        self._leave_result(model, position, fingerprints, base, adapted)
        before, after = base.metrics["eval_loss"], adapted.metrics["eval_loss"]
        return self.last_words(
            f"finished after {position.step} steps: held-out loss {before:.4f} before, {after:.4f} after"
        ).model_copy(update={"result_uri": str(result_uri(self._settings))})

    def last_words(self, message: str) -> TerminationMessage:
        """What the container leaves behind if it ends now."""
        return TerminationMessage(
            message=message,
            step=self._step,
            from_step=self._from_step,
            checkpoint=self._writer.newest if self._writer else None,
        )

    def close(self) -> None:
        """Sends and notes the last report, and leaves what was noted, if that takes no time."""
        if self._journal:
            self._journal.close(_LAST_REPORT_SECONDS)
        if self._reporter:
            self._reporter.close(_LAST_REPORT_SECONDS)

    def _load_model(self) -> TrainableModel:
        uri = self._settings.model.uri
        folder = self._patience.call(lambda: fetch_model(self._stores, uri, self._settings.scratch))
        model = kind_of(folder.report).load(folder, self._settings.lora, self._settings.training)
        parameters = sum(parameter.numel() for _, parameter in state.trainable(model.module))
        _log.info("model_loaded", uri=uri, device=str(model.device), trainable_parameters=parameters)
        return model

    def _train(self, model: TrainableModel, corpus: Corpus, fingerprints: dict[str, str], ranks: Ranks) -> Position:
        spec = self._settings.training
        attempt = int(ranks.share(str(self._settings.attempt).encode()))  # without a cluster rank 0 alone has counted
        repository = Repository(self._stores, replace(self._settings, attempt=attempt), fingerprints)
        optimizer = torch.optim.AdamW(
            [parameter for _, parameter in state.trainable(model.module)],
            lr=spec.learning_rate,
            weight_decay=spec.weight_decay,
            fused=True,  # one kernel instead of a dozen for each of hundreds of small tensors
        )
        position = self._begin(repository, model, optimizer, ranks)
        self._from_step = self._step = position.step
        self._writer = CheckpointWriter(repository, position.step, self._from_checkpoint, self._on_failed_save)
        training = Training(
            model=model,
            optimizer=optimizer,
            samples=corpus.training,
            order=Order(spec.seed, len(corpus.training), corpus.training.block),
            spec=spec,
            checkpoint=self._settings.checkpoint,
            total_steps=total_steps(spec, len(corpus.training), ranks.place.world, position),
            writer=self._writer,
            stop=self._stop,
            wishes=self._wishes,
            losses=self._losses,
            on_step=self._on_step,
            ranks=ranks,
        )
        return training.run(position)

    def _begin(
        self, repository: Repository, model: TrainableModel, optimizer: torch.optim.Optimizer, ranks: Ranks
    ) -> Position:
        """Where training goes on. Rank 0 alone looks at the store: two ranks could see two newest checkpoints."""
        position = self._resume(repository, model, optimizer) if ranks.place.leads else Position()
        if ranks.place.world > 1:
            snapshot = shared(ranks, state.take(model.module, optimizer, position, self._losses.points))
            state.put_back(snapshot, model.module, optimizer)
            self._losses = Losses(snapshot.losses)
            position = snapshot.position
        return position

    def _resume(self, repository: Repository, model: TrainableModel, optimizer: torch.optim.Optimizer) -> Position:
        self._claim(repository)
        broken: dict[Committed, str] = {}
        found = self._patience.call(lambda: repository.load_newest(broken.__setitem__))
        for each, why in broken.items():
            instead = f"step {found[0].step}" if found else "the beginning"
            message = f"the checkpoint of step {each.step} is not used: {why}. Training goes on from {instead}"
            self._notice(Reason.CHECKPOINT_BROKEN, f"{message} ({each.folder})")
        if found is None:
            torch.manual_seed(self._settings.training.seed)
            _log.info("training_started")
            return Position()
        checkpoint, snapshot = found
        self._from_checkpoint = str(checkpoint.folder)
        self._losses = Losses(snapshot.losses)
        state.put_back(snapshot, model.module, optimizer)
        _log.info("training_resumed", uri=str(checkpoint.folder), step=checkpoint.step, attempt_of=checkpoint.attempt)
        return snapshot.position

    def _claim(self, repository: Repository) -> None:
        here = kills_here()
        before = self._patience.call(lambda: repository.claim(here))
        if before and (killed := killed_since(before.memory_kills, here)):
            _log.warning(
                "killed_for_memory",
                message=f"since attempt {self._settings.attempt - 1} began, the kernel has killed for memory in this "
                f"cgroup ({killed} times); lower training.batchSize or sequenceLength, or give the trainer more memory",
            )

    def _notice(self, reason: NoticeReason, message: str) -> None:
        if self._reporter:
            self._reporter.notice(Notice(reason=reason, message=message[:NOTICE_LIMIT_CHARACTERS]))

    def _on_failed_save(self, message: str, failures: int) -> None:
        if failures == 1:
            self._notice(
                Reason.CHECKPOINT_NOT_SAVED, f"a checkpoint could not be saved: {message}. Training goes on meanwhile"
            )

    def _evaluate(self, model: TrainableModel, corpus: Corpus) -> tuple[Evaluation, Evaluation]:
        """The base model's measurement and the adapted one's.

        Both are taken at the end: the base model never changes, so that an attempt that dies has not spent time on it,
        and training begins sooner.
        """
        batch_size = self._settings.training.batch_size
        with model.without_adapter():
            base = evaluate(model, corpus.held_out, batch_size, self._stop)
        adapted = evaluate(model, corpus.held_out, batch_size, self._stop)
        for which, found in (("of the base model", base), ("with the adapter", adapted)):
            if not math.isfinite(loss := found.metrics["eval_loss"]):
                raise Diverged(f"the held-out loss {which} is {loss}; look at training.precision and the held-out data")
        _log.info("evaluated", base=base.metrics, adapted=adapted.metrics, samples=adapted.samples)
        return base, adapted

    def _leave_result(
        self,
        model: TrainableModel,
        position: Position,
        fingerprints: dict[str, str],
        base: Evaluation,
        adapted: Evaluation,
    ) -> None:
        settings, stores = self._settings, self._stores
        document = result_document(settings, position, fingerprints, adapted, base)
        with TemporaryDirectory(dir=settings.scratch) as folder:
            model.save_adapter(Path(folder), settings.model.uri)
            if self._journal:
                self._journal.keepsakes(Path(folder), document, model.usage, self._losses.points)
            self._patience.call(lambda: upload_folder(stores, Path(folder), adapter_uri(settings)))
        self._patience.call(Repository(stores, settings, fingerprints).refuse_if_fenced)
        self._patience.call(lambda: write_result(stores, settings, document))
        self._preparation.forget()
        _log.info("result_written", uri=str(result_uri(settings)), metrics=document.metrics)

    def _on_step(self, report: StepReport) -> None:
        now = datetime.now(UTC)
        self._step = report.position.step
        if self._journal is None:
            return
        self._line.show(report, eta_seconds(report))
        self._confirm()
        newest = self._writer.newest if self._writer else None
        told = progress_report(report, newest, now, self._from_step)
        self._journal.step(report, told)
        if self._reporter:
            self._reporter.tell(told)
        if self._line.shown:
            return
        if self._logged_at is None or (now - self._logged_at).total_seconds() >= _LOG_SECONDS:
            self._logged_at = now
            _log.info(
                "step",
                step=report.position.step,
                total_steps=report.total_steps,
                loss=round(report.loss, 6),
                learning_rate=report.learning_rate,
                tokens_per_second=round(report.labels_per_second, 1),
            )

    def _confirm(self) -> None:
        """Tells of the checkpoint that was asked for, once it is saved."""
        asked, saved = self._asked, self._writer.newest if self._writer else None
        if asked is None or saved is None or saved.step < asked.since_step:
            return
        self._asked = None
        why = f": {asked.reason}" if asked.reason else ""
        self._notice(Reason.CHECKPOINT_SAVED, f"the checkpoint of step {saved.step} is saved, as asked for{why}")

    def _on_command(self, reply: ProgressReply) -> None:
        """Called on the reporter's thread."""
        _log.info("command_received", command=reply.command, reason=reply.reason)
        match reply.command:
            case Command.CHECKPOINT:
                self._asked = _Asked(self._step or 0, reply.reason)
                self._wishes.checkpoint = True
            case Command.STOP:
                self._stop.request("stopped on command")

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from perdure_api.conditions import Reason
from perdure_api.pod import CheckpointRef
from perdure_api.progress import Command, Notice, ProgressReply, ProgressReport
from perdure_trainer.loop import StepReport
from perdure_trainer.progress import reporter as reporter_module
from perdure_trainer.progress.report import eta_seconds, progress_report
from perdure_trainer.progress.reporter import ProgressReporter
from perdure_trainer.settings import ProgressSettings
from perdure_trainer.state import Position

QUICK = 0.01
SECONDS = 60


class Receiver:
    """A progress receiver that answers what a test wants."""

    def __init__(self) -> None:
        self.reports: list[ProgressReport] = []
        self.tokens: list[str | None] = []
        self.answer: tuple[int, bytes] = (200, b"{}")
        self.hold = Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.hold.wait(SECONDS)
                # A test that sees the report may change the answer at once: that of the next one.
                status, content = outer.answer
                outer.tokens.append(self.headers["Authorization"])
                outer.reports.append(ProgressReport.model_validate_json(body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that hang up are expected
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.scheme = "http"

    def with_certificate(self, folder: Path) -> Path:
        """Speaks HTTPS from now on; the file of its certificate authority."""
        certificate, key = self_signed(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https"
        return certificate

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._server.server_port}/v1/progress"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "ca.crt", folder / "key"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than a trainer waits for it."""
    monkeypatch.setattr(reporter_module, "TIMEOUT_SECONDS", SECONDS)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def step_report(step: int) -> StepReport:
    return StepReport(
        position=Position(step=step, samples=4 * step, labels=100 * step, train_loss=2.0, seconds=10.0 * step),
        total_steps=40,
        loss=2.5,
        learning_rate=1e-4,
        gradient_norm=0.7,
        labels_per_second=123.4,
    )


def report(step: int) -> ProgressReport:
    return progress_report(step_report(step), None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ignore(_: Command) -> None:
    pass


def test_a_report_speaks_both_languages() -> None:
    checkpoint = CheckpointRef(uri="s3://b/c", step=9)
    found = progress_report(step_report(10), checkpoint, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 4).to_wire()
    assert found == {
        "trainerStatus": {
            "progressPercentage": 25,
            "estimatedRemainingSeconds": 300,
            "metrics": [
                {"name": "loss", "value": "2.5"},
                {"name": "learning_rate", "value": "0.0001"},
                {"name": "grad_norm", "value": "0.7"},
            ],
            "lastUpdatedTime": "2026-01-02T03:04:05Z",
        },
        "perdure": {
            "step": 10,
            "fromStep": 4,
            "totalSteps": 40,
            "tokensPerSecond": 123.4,
            "metrics": {"loss": 2.5, "learning_rate": 0.0001, "grad_norm": 0.7},
            "checkpoint": {"uri": "s3://b/c", "step": 9},
            "notices": [],
        },
    }


def test_the_last_step_leaves_no_time() -> None:
    assert eta_seconds(step_report(40)) == 0


def test_the_newest_report_arrives_and_older_ones_are_not_made_up_for(receiver: Receiver) -> None:
    receiver.hold.clear()
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), ignore, QUICK)
    for step in range(1, 30):
        reporter.tell(report(step))
    receiver.hold.set()
    wait_for(lambda: bool(receiver.reports) and receiver.reports[-1] == report(29))
    assert len(receiver.reports) <= 3
    reporter.close(SECONDS)


def test_a_notice_goes_with_every_report_until_one_is_taken(receiver: Receiver) -> None:
    notice = Notice(reason=Reason.CHECKPOINT_BROKEN, message="step 9 is cut in half")
    receiver.answer = (503, b"")
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), ignore, QUICK)
    reporter.notice(notice)
    reporter.tell(report(1))
    wait_for(lambda: len(receiver.reports) == 1)
    receiver.answer = (200, b"{}")
    reporter.tell(report(2))
    wait_for(lambda: len(receiver.reports) == 2)
    reporter.tell(report(3))
    reporter.close(SECONDS)
    assert [each.perdure.notices for each in receiver.reports if each.perdure] == [[notice], [notice], []]


def test_what_was_told_last_is_sent_before_the_end(receiver: Receiver) -> None:
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), ignore, interval_seconds=SECONDS)
    reporter.tell(report(1))
    wait_for(lambda: len(receiver.reports) == 1)
    reporter.tell(report(2))
    reporter.close(SECONDS)
    assert [each.perdure.step for each in receiver.reports if each.perdure] == [1, 2]


def test_speaks_tls_and_reads_its_token_anew_each_time(tmp_path: Path) -> None:
    receiver = Receiver()
    ca = receiver.with_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("first\n")
    with receiver:
        reporter = ProgressReporter(ProgressSettings(receiver.url, token, ca), ignore, QUICK)
        reporter.tell(report(1))
        wait_for(lambda: len(receiver.reports) == 1)
        token.write_text("second\n")
        reporter.tell(report(2))
        wait_for(lambda: len(receiver.reports) == 2)
        reporter.close(SECONDS)
    assert receiver.tokens == ["Bearer first", "Bearer second"]


def test_a_receiver_that_cannot_prove_who_it_is_is_told_nothing(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.with_certificate(tmp_path)
    with receiver:
        reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), ignore, QUICK)
        reporter.tell(report(1))
        reporter.close(SECONDS)
    assert receiver.reports == []


@pytest.mark.parametrize("command", Command)
def test_a_command_in_the_answer_is_handed_on(receiver: Receiver, command: Command) -> None:
    receiver.answer = (200, json.dumps({"command": command, "new": "field"}).encode())
    received: list[ProgressReply] = []
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), received.append, QUICK)
    reporter.tell(report(1))
    wait_for(lambda: bool(received))
    reporter.close(SECONDS)
    assert [reply.command for reply in received] == [command]


def test_a_command_that_comes_with_every_answer_is_handed_on_once(receiver: Receiver) -> None:
    received: list[ProgressReply] = []
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), received.append, QUICK)
    for number, identity in enumerate(["a", "a", "b", "b"], start=1):
        receiver.answer = (200, json.dumps({"command": "checkpoint", "id": identity}).encode())
        reporter.tell(report(number))
        wait_for(lambda: len(receiver.reports) == number)  # noqa: B023 - used at once
    reporter.close(SECONDS)
    assert [reply.id for reply in received] == ["a", "b"]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b""),
        (200, b"\0garbage"),
        (200, b"[]"),
        (200, b'{"command": "dance"}'),
        (204, b""),
        (500, b"x"),
        (302, b""),
    ],
    ids=str,
)
def test_whatever_the_receiver_answers_the_next_report_is_sent(receiver: Receiver, answer: tuple[int, bytes]) -> None:
    receiver.answer = answer
    received: list[ProgressReply] = []
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), received.append, QUICK)
    reporter.tell(report(1))
    wait_for(lambda: len(receiver.reports) == 1)
    receiver.answer = (200, b"{}")
    reporter.tell(report(2))
    wait_for(lambda: len(receiver.reports) == 2)
    reporter.close(SECONDS)
    assert received == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(ProgressSettings("http://127.0.0.1:1/v1/progress", None, None), id="gone"),
        pytest.param(ProgressSettings("nonsense", None, None), id="no address"),
        pytest.param(ProgressSettings("http://127.0.0.1:1/", Path("/nonexistent"), None), id="no token"),
        pytest.param(ProgressSettings("https://127.0.0.1:1/", None, Path("/nonexistent")), id="no authority"),
    ],
)
def test_a_receiver_that_is_not_there_costs_nothing(settings: ProgressSettings) -> None:
    """With a second between tries, a teller that waited would be here until the test's time is up."""
    reporter = ProgressReporter(settings, ignore, interval_seconds=1)
    for _ in range(10_000):
        reporter.tell(report(1))
    reporter.close(SECONDS)
    assert not reporter._thread.is_alive()


def test_a_receiver_that_hangs_is_not_waited_for(receiver: Receiver) -> None:
    receiver.hold.clear()
    reporter = ProgressReporter(ProgressSettings(receiver.url, None, None), ignore, QUICK)
    reporter.tell(report(1))
    reporter.close(0.1)
    assert reporter._thread.is_alive()  # left behind, for it waits still

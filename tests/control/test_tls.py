"""A server's certificate, as the operator makes it and a Secret volume brings it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure_control import tls
from perdure_control.tls import Certificate
from perdure_operator.certificates import SERVER_LIFE, renewed

SERVICE = ("progress.perdure.svc",)


def bring(folder: Path) -> None:
    bundle = renewed({}, SERVICE, datetime.now(UTC))
    assert bundle
    for name, content in bundle.to_data().items():
        (folder / name).write_bytes(content)


async def handshake(certificate: Certificate, folder: Path) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=certificate.context)
    client = ssl.create_default_context(cafile=folder / "ca.crt")
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=SERVICE[0])
        writer.close()


async def test_a_certificate_that_comes_later_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "ARRIVAL_LOOK_SECONDS", 0.01)
    certificate = Certificate(tmp_path)
    arriving = asyncio.create_task(certificate.arrive())
    await asyncio.sleep(0)

    assert certificate.authority() is None
    assert not arriving.done()
    bring(tmp_path)
    async with asyncio.timeout(60):
        await arriving

    await handshake(certificate, tmp_path)


async def test_a_renewed_certificate_serves_new_connections_without_a_restart(tmp_path: Path) -> None:
    bring(tmp_path)
    certificate = Certificate(tmp_path)
    certificate.load()
    await handshake(certificate, tmp_path)

    bring(tmp_path)
    with pytest.raises(ssl.SSLError):
        await handshake(certificate, tmp_path)
    certificate.load()

    await handshake(certificate, tmp_path)


def test_it_tells_until_when_the_served_certificate_is_good(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    assert certificate.life is None
    bring(tmp_path)
    assert certificate.life is None

    certificate.load()

    assert certificate.life
    assert certificate.life.begins < datetime.now(UTC)
    assert timedelta() <= datetime.now(UTC) + SERVER_LIFE - certificate.life.ends < timedelta(minutes=1)


def test_a_certificate_that_only_tls_can_read_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> None:
        raise ValueError("an odd serial number")

    bring(tmp_path)
    monkeypatch.setattr(tls.x509, "load_pem_x509_certificate", refuse)
    certificate = Certificate(tmp_path)

    certificate.load()

    assert certificate.life is None

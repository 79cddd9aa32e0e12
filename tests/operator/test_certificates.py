from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from perdure_operator.certificates import AUTHORITY_LIFE, SERVER_LIFE, Bundle, renewed, service_names

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = service_names("progress", "perdure")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def fresh() -> Bundle:
    bundle = renewed({}, NAMES, NOW)
    assert bundle
    return bundle


def expiry(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def test_an_empty_secret_is_filled(fresh: Bundle) -> None:
    assert fresh.to_data().keys() == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert expiry(fresh.authority.certificate) == NOW + AUTHORITY_LIFE
    assert expiry(fresh.server.certificate) == NOW + SERVER_LIFE


@pytest.mark.parametrize(
    ("age", "server_renewed", "authority_renewed"),
    [
        (0 * DAY, False, False),
        (240 * DAY, False, False),
        (250 * DAY, True, False),
        (400 * DAY, True, False),
        (AUTHORITY_LIFE - 400 * DAY, True, False),
        (AUTHORITY_LIFE - 300 * DAY, True, True),
    ],
    ids=["new", "a third left", "less than a third left", "expired", "authority old", "authority too old"],
)
def test_renewal(fresh: Bundle, age: timedelta, *, server_renewed: bool, authority_renewed: bool) -> None:
    after = renewed(fresh.to_data(), NAMES, NOW + age)

    assert (after is not None) == server_renewed
    assert (after is not None and after.authority != fresh.authority) == authority_renewed


def test_a_new_name_of_the_service_brings_a_new_certificate_of_the_same_authority(fresh: Bundle) -> None:
    after = renewed(fresh.to_data(), service_names("other", "perdure"), NOW)

    assert after
    assert after.authority == fresh.authority


def test_a_new_certificate_is_valid_where_a_clock_is_minutes_behind(fresh: Bundle) -> None:
    for pair in (fresh.authority, fresh.server):
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        assert certificate.not_valid_before_utc <= NOW - timedelta(minutes=5)


@pytest.mark.parametrize("key", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("content", [b"", b"nonsense"], ids=["missing", "broken"])
def test_what_is_broken_is_made_anew(fresh: Bundle, key: str, content: bytes) -> None:
    after = renewed({**fresh.to_data(), key: content}, NAMES, NOW)

    assert after
    assert renewed(after.to_data(), NAMES, NOW) is None


def test_parts_that_do_not_belong_together_are_made_anew(fresh: Bundle) -> None:
    other = renewed({}, NAMES, NOW)
    assert other

    after = renewed({**fresh.to_data(), "tls.crt": other.server.certificate, "tls.key": other.server.key}, NAMES, NOW)

    assert after
    assert after.authority == fresh.authority


@pytest.mark.parametrize("name", NAMES)
async def test_a_client_that_knows_the_authority_trusts_the_server(fresh: Bundle, name: str, tmp_path: Path) -> None:
    for file, content in fresh.to_data().items():
        (tmp_path / file).write_bytes(content)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client_side = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname=name)
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()

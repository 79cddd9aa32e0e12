"""A server's certificate: files that the operator's Secret brings, read again when they change."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

LOOK_SECONDS: Final = 30.0
ARRIVAL_LOOK_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Life:
    """From when to when a certificate is good."""

    begins: datetime
    ends: datetime


class Certificate:
    """Certificate, key and authority in one folder, as a TLS Secret is mounted."""

    def __init__(self, folder: Path) -> None:
        self._authority = folder / "ca.crt"
        self._certificate = folder / "tls.crt"
        self._key = folder / "tls.key"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._loaded: tuple[float, ...] = ()
        self.life: Life | None = None
        """Of what is served; None: nothing is yet."""

    @property
    def present(self) -> bool:
        """Whether all three files are there."""
        return all(file.is_file() for file in (self._authority, self._certificate, self._key))

    def authority(self) -> str | None:
        """PEM of the authority, for clients to check us by."""
        return self._authority.read_text() if self._authority.is_file() else None

    def load(self) -> None:
        """Reads certificate and key where they changed; connections made from now on use them."""
        times = tuple(file.stat().st_mtime for file in (self._certificate, self._key))
        if times != self._loaded:
            self.context.load_cert_chain(self._certificate, self._key)
            self._loaded = times
            self.life = _life(self._certificate.read_bytes())
            log.info("certificate_loaded", path=str(self._certificate))

    async def arrive(self) -> None:
        """Returns when the files are there and read: the operator may still be making them."""
        while not self.present:
            log.warning("certificate_missing", path=str(self._certificate), waiting_for="the operator to make it")
            await asyncio.sleep(ARRIVAL_LOOK_SECONDS)
        self.load()

    async def keep_fresh(self) -> None:
        """Never returns; end it by cancelling."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.load()
            except (OSError, ssl.SSLError) as error:
                log.warning("certificate_not_loaded", error=str(error))


def _life(pem: bytes) -> Life | None:
    """Of the first certificate; None where only TLS itself can make something of it."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None
    return Life(certificate.not_valid_before_utc, certificate.not_valid_after_utc)

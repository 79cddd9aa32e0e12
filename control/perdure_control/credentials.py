"""How Temporal knows us and we know it: files, as Secrets are mounted, read and checked before anything uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from temporalio.service import TLSConfig

AUTHORITY: Final = "ca.crt"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"

_TLS: Final = "PERDURE_TEMPORAL_TLS"
_FOLDER: Final = "PERDURE_TEMPORAL_TLS_DIR"
_SERVER_NAME: Final = "PERDURE_TEMPORAL_TLS_SERVER_NAME"
_PUBLIC_AUTHORITY: Final = "PERDURE_TEMPORAL_TLS_PUBLIC_AUTHORITY"
_API_KEY: Final = "PERDURE_TEMPORAL_API_KEY_FILE"

_TRUTH: Final = {"": False, "false": False, "true": True}
_CLOUD: Final = (".tmprl.cloud", ".api.temporal.io")


class CredentialsError(ValueError):
    """Credentials that cannot be used; the message says what was found, expected, and what to do, and no secret."""


@dataclass(frozen=True)
class Credentials:
    """What a connection is made with. Neither is shown by repr(): they hold keys."""

    tls: TLSConfig | None = field(default=None, repr=False)
    """None: in the clear."""
    api_key: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    """When the client certificate does; None where there is none."""


@dataclass(frozen=True)
class CredentialFiles:
    """Where credentials are. Who owns the files may replace them at any time."""

    tls: bool = False
    folder: Path | None = None
    """Of ca.crt, and of tls.crt with tls.key, as cert-manager makes them; None: the public authorities are trusted, and
    there is no client certificate."""
    server_name: str = ""
    """What the server's certificate is made out to; empty: the host of the address."""
    public_authority: bool = False
    """Whether a public authority has signed the server's certificate, so that ca.crt is somebody else's."""
    api_key: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CredentialFiles:
        """What PERDURE_TEMPORAL_* variables name; nothing is read yet.

        Raises:
            CredentialsError: they contradict each other.
        """
        folder, api_key = environment.get(_FOLDER, ""), environment.get(_API_KEY, "")
        files = cls(
            tls=_truth(environment, _TLS),
            folder=Path(folder) if folder else None,
            server_name=environment.get(_SERVER_NAME, ""),
            public_authority=_truth(environment, _PUBLIC_AUTHORITY),
            api_key=Path(api_key) if api_key else None,
        )
        if not files.tls:
            for name in (_FOLDER, _SERVER_NAME, _API_KEY):
                if environment.get(name):
                    raise CredentialsError(
                        f"{name} is set and {_TLS} is not true, expected both: credentials are never sent in the "
                        f"clear; set {_TLS}=true (temporal.tls.enabled of the chart), or leave {name} out"
                    )
        return files

    def read(self, address: str) -> Credentials:
        """What the files hold now.

        Args:
            address: Whom they are shown to: Temporal Cloud takes one kind of them at a time.

        Raises:
            CredentialsError: they cannot be used.
        """
        if not self.tls:
            return Credentials()
        authority, pair = self._folder() if self.folder else (None, None)
        api_key = _api_key(self.api_key) if self.api_key else None
        if pair and api_key and address.partition(":")[0].endswith(_CLOUD):
            raise CredentialsError(
                f"found an API key ({self.api_key}) and a client certificate ({pair.path}) for Temporal Cloud "
                f"({address}), expected one of them; leave one out: temporal.apiKey.existingSecret or "
                f"temporal.tls.existingSecret of the chart"
            )
        tls = TLSConfig(
            server_root_ca_cert=None if self.public_authority else authority,
            domain=self.server_name or None,
            client_cert=pair.certificate if pair else None,
            client_private_key=pair.key if pair else None,
        )
        return Credentials(tls=tls, api_key=api_key, expires=pair.expires if pair else None)

    def _folder(self) -> tuple[bytes | None, _Pair | None]:
        """Authority and pair; each None where there is none."""
        folder = self.folder or Path()
        # An issuer that does not know its authority leaves ca.crt empty (cert-manager with ACME).
        found = {name: text for name in (AUTHORITY, CERTIFICATE, KEY) if (text := _content(folder / name)).strip()}
        if not found:
            raise CredentialsError(
                f"{folder} holds {_names(folder)}, expected {AUTHORITY}, or {CERTIFICATE} with {KEY}, or all three; "
                f"name the keys of the Secret so, or leave the Secret out to trust public authorities"
            )
        if (CERTIFICATE in found) is not (KEY in found):
            one, other = (CERTIFICATE, KEY) if CERTIFICATE in found else (KEY, CERTIFICATE)
            raise CredentialsError(
                f"{folder} holds {one} and no {other}, expected both or neither; add {other} to the Secret, or take "
                f"{one} out"
            )
        if AUTHORITY in found:
            _certificates(folder / AUTHORITY, found[AUTHORITY])
        pair = _pair(folder, found[CERTIFICATE], found[KEY]) if KEY in found else None
        return found.get(AUTHORITY), pair


IN_THE_CLEAR: Final = CredentialFiles()
"""None at all: a Temporal that anyone may enter who reaches it."""


@dataclass(frozen=True)
class _Pair:
    """A client certificate, with those that lead to its authority, and its key; both as PEM."""

    path: Path
    certificate: bytes
    key: bytes
    expires: datetime


def _truth(environment: Mapping[str, str], name: str) -> bool:
    found = environment.get(name, "")
    if found not in _TRUTH:
        raise CredentialsError(f'{name} is "{found}", expected true or false; set it to one of these')
    return _TRUTH[found]


def _content(path: Path) -> bytes:
    """What a file holds; nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CredentialsError(
            f"{path} cannot be read ({error.strerror}), expected a file; let this process read it"
        ) from error


def _names(folder: Path) -> str:
    """What is in a folder, for people. What begins with a dot is the kubelet's."""
    try:
        found = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    except OSError:
        return "nothing that can be read"
    return ", ".join(found) or "nothing"


def _pair(folder: Path, certificate: bytes, key: bytes) -> _Pair:
    path = folder / CERTIFICATE
    # The first is ours; those behind it lead to its authority.
    ours = _certificates(path, certificate)[0]
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError as error:
        raise CredentialsError(
            f"{folder / KEY} is encrypted, expected a private key without a passphrase; decrypt it before it goes into "
            f"the Secret"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialsError(
            f"{folder / KEY} is no private key as PEM, expected one that begins with -----BEGIN PRIVATE KEY----- (or "
            f"RSA or EC PRIVATE KEY); put that of {CERTIFICATE} there"
        ) from error
    if private.public_key() != ours.public_key():
        raise CredentialsError(
            f"{folder / KEY} is not the key of {path} ({ours.subject.rfc4514_string() or 'no subject'}), expected the "
            f"two that were made together; put both of one certificate into the Secret"
        )
    return _Pair(path, certificate, key, ours.not_valid_after_utc)


def _certificates(path: Path, text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise CredentialsError(
            f"{path} is no certificate as PEM, expected one that begins with -----BEGIN CERTIFICATE-----; put such "
            f"a one there"
        ) from error


def _api_key(path: Path) -> str:
    # `kubectl create secret --from-file` keeps the line break at a file's end.
    text = _content(path).strip()
    if not text:
        raise CredentialsError(
            f"{path} is not there or is empty, expected an API key; put one into the Secret, under the key that "
            f"temporal.apiKey.key of the chart names"
        )
    # Nothing else fits into a header, and the SDK would leave it out without a word.
    if not all(0x21 <= each <= 0x7E for each in text):  # noqa: PLR2004 - what is printable in ASCII, without blanks
        raise CredentialsError(
            f"{path} holds blanks, line breaks or characters beyond ASCII, expected an API key alone, on one line; put "
            f"nothing else there"
        )
    return text.decode("ascii")

"""The certificates of the progress receiver and the scaler, as pure functions: authorities, and what they sign.

Training pods send their progress over TLS and know this authority by its certificate, which each pod is given at its
start. So the authority lives long and stays; the server's certificate is renewed below it, and pods that run for
weeks notice nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=365)
_RENEWED_WITH_LEFT: Final = 1 / 3
"""Share of the life that is left when a certificate is renewed."""
_CLOCKS_DIFFER_BY: Final = timedelta(minutes=10)

CA_CERTIFICATE: Final = "ca.crt"
CA_KEY: Final = "ca.key"
SERVER_CERTIFICATE: Final = "tls.crt"
SERVER_KEY: Final = "tls.key"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Bundle:
    """Everything that the Secret holds."""

    authority: Pair
    server: Pair

    def to_data(self) -> dict[str, bytes]:
        """By the keys of the Secret."""
        return {
            CA_CERTIFICATE: self.authority.certificate,
            CA_KEY: self.authority.key,
            SERVER_CERTIFICATE: self.server.certificate,
            SERVER_KEY: self.server.key,
        }


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Every DNS name under which pods may know a Service."""
    return (
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
    )


def renewed(data: dict[str, bytes], dns_names: tuple[str, ...], now: datetime) -> Bundle | None:
    """What a Secret should hold instead of this data; None while it is good as it is.

    The authority is kept as long as it can be: pods that run know no other.
    """
    authority = _usable_authority(data, now)
    if authority is None:
        authority = make_authority(now)
    elif _server_is_good(data, authority, dns_names, now):
        return None
    return Bundle(authority=authority, server=make_server(authority, dns_names, now))


def make_authority(now: datetime) -> Pair:
    """A new authority that can sign server certificates and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Perdure progress receiver CA")])
    certificate = (
        _builder(name, name, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(_certificate_pem(certificate), _key_pem(key))


def make_server(authority: Pair, dns_names: tuple[str, ...], now: datetime) -> Pair:
    """A new server certificate, signed by an authority. It never outlives the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = x509.load_pem_x509_certificate(authority.certificate)
    signing_key = _load_key(authority.key)
    life = min(SERVER_LIFE, signer.not_valid_after_utc - now)
    # A common name holds 64 characters and is read by nobody any more: the alternative names count.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Perdure progress receiver")])
    certificate = (
        _builder(name, signer.subject, key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )
    return Pair(_certificate_pem(certificate), _key_pem(key))


def due_for_renewal(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether a third of its life or less is left."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now <= life * _RENEWED_WITH_LEFT


def _usable_authority(data: dict[str, bytes], now: datetime) -> Pair | None:
    """The authority in the data, when it can still sign a server certificate of full life."""
    pair = Pair(data.get(CA_CERTIFICATE, b""), data.get(CA_KEY, b""))
    certificate = _load_pair(pair)
    if certificate is None or certificate.not_valid_after_utc - now < SERVER_LIFE:
        return None
    return pair


def _server_is_good(data: dict[str, bytes], authority: Pair, dns_names: tuple[str, ...], now: datetime) -> bool:
    certificate = _load_pair(Pair(data.get(SERVER_CERTIFICATE, b""), data.get(SERVER_KEY, b"")))
    if certificate is None or due_for_renewal(certificate, now):
        return False
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is not
        return False
    return set(dns_names) <= set(names.get_values_for_type(x509.DNSName))


def _load_pair(pair: Pair) -> x509.Certificate | None:
    """The certificate of a pair; None when it or its key cannot be read, or they do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = _load_key(pair.key)
    except ValueError:
        return None
    return certificate if certificate.public_key() == key.public_key() else None


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        # As for every other key that cannot be used.
        raise ValueError(  # noqa: TRY004
            f"a key of type {type(key).__name__}, expected an elliptic curve; it is not one of ours"
        )
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _CLOCKS_DIFFER_BY)
        .not_valid_after(now.astimezone(UTC) + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

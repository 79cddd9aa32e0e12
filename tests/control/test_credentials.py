"""How credentials for Temporal are read, and what is said of those that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles, Credentials, CredentialsError
from perdure_control.settings import SettingsError
from perdure_operator import main as operator
from perdure_operator.settings import settings_from
from perdure_workers import main as worker
from perdure_workers.settings import WorkerSettings
from tests.authority import DAY, Authority, encrypted_key

OURS = "temporal.example.com:7233"
CLOUD = "training.a1b2c.tmprl.cloud:7233"
NEEDED = {"PERDURE_TEMPORAL_ADDRESS": OURS, "PERDURE_NAMESPACE": "perdure"}
CLIENTS = Authority("clients")
SERVERS = Authority("servers").certificate
CLIENT = CLIENTS.sign("perdure")


def folder_files(folder: Path, **others: object) -> CredentialFiles:
    return CredentialFiles(tls=True, folder=folder, **others)  # type: ignore[arg-type]


def test_without_settings_there_are_none() -> None:
    files = CredentialFiles.from_environment({})

    assert files == IN_THE_CLEAR
    assert files.read(OURS) == Credentials()


def test_variables_name_the_files() -> None:
    environment = {
        "PERDURE_TEMPORAL_TLS": "true",
        "PERDURE_TEMPORAL_TLS_DIR": "/tls",
        "PERDURE_TEMPORAL_TLS_SERVER_NAME": "frontend",
        "PERDURE_TEMPORAL_TLS_PUBLIC_AUTHORITY": "true",
        "PERDURE_TEMPORAL_API_KEY_FILE": "/api/key",
    }
    expected = CredentialFiles(
        tls=True, folder=Path("/tls"), server_name="frontend", public_authority=True, api_key=Path("/api/key")
    )

    assert settings_from({**NEEDED, **environment}).temporal_credentials == expected
    assert WorkerSettings.from_environment(environment).temporal_credentials == expected


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PERDURE_TEMPORAL_TLS": "yes"}, 'PERDURE_TEMPORAL_TLS is "yes", expected true or false'),
        ({"PERDURE_TEMPORAL_API_KEY_FILE": "/key"}, "API_KEY_FILE is set and PERDURE_TEMPORAL_TLS is not true"),
        ({"PERDURE_TEMPORAL_TLS_DIR": "/tls", "PERDURE_TEMPORAL_TLS": "false"}, "TLS_DIR is set and PERDURE"),
        ({"PERDURE_TEMPORAL_TLS_SERVER_NAME": "frontend"}, "SERVER_NAME is set and PERDURE_TEMPORAL_TLS is not true"),
    ],
    ids=["neither true nor false", "an API key in the clear", "certificates in the clear", "a name in the clear"],
)
def test_variables_that_contradict_each_other_are_refused(environment: Mapping[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_from({**NEEDED, **environment})
    with pytest.raises(SettingsError, match=says):
        WorkerSettings.from_environment(environment)


def test_tls_alone_trusts_public_authorities_and_shows_nothing() -> None:
    found = CredentialFiles(tls=True).read(OURS)

    assert found.tls
    assert (found.tls.server_root_ca_cert, found.tls.client_cert, found.api_key) == (None, None, None)


def test_a_folder_as_cert_manager_makes_it_gives_all_three(tmp_path: Path) -> None:
    found = folder_files(CLIENT.write(tmp_path, SERVERS), server_name="frontend").read(OURS)

    assert found.tls
    assert (found.tls.client_cert, found.tls.client_private_key) == (CLIENT.certificate, CLIENT.key)
    assert (found.tls.server_root_ca_cert, found.tls.domain) == (SERVERS, "frontend")
    assert found.expires


@pytest.mark.parametrize("authority", [None, b"", b"\n"], ids=["none", "empty", "an empty line"])
def test_without_an_authority_public_ones_are_trusted(tmp_path: Path, authority: bytes | None) -> None:
    """An issuer that does not know its authority leaves ca.crt empty."""
    found = folder_files(CLIENT.write(tmp_path, authority)).read(OURS)

    assert found.tls
    assert found.tls.server_root_ca_cert is None
    assert found.tls.client_cert


def test_an_authority_can_be_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(SERVERS)

    found = folder_files(tmp_path).read(OURS)

    assert found.tls
    assert (found.tls.server_root_ca_cert, found.tls.client_cert) == (SERVERS, None)


def test_the_authority_of_the_client_is_not_taken_for_that_of_a_public_server(tmp_path: Path) -> None:
    """Temporal Cloud's certificates are a public authority's; cert-manager's ca.crt is that of the client's."""
    found = folder_files(CLIENT.write(tmp_path, CLIENTS.certificate), public_authority=True).read(CLOUD)

    assert found.tls
    assert found.tls.server_root_ca_cert is None


def test_a_certificate_may_bring_those_that_lead_to_its_authority(tmp_path: Path) -> None:
    CLIENT.write(tmp_path)
    chain = CLIENT.certificate + CLIENTS.certificate
    (tmp_path / "tls.crt").write_bytes(chain)

    found = folder_files(tmp_path).read(OURS)

    assert found.tls
    assert found.tls.client_cert == chain


def test_an_api_key_is_read_without_the_line_break_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-key.b_c\n")

    assert CredentialFiles(tls=True, api_key=tmp_path / "key").read(OURS).api_key == "a-key.b_c"


def test_a_certificate_and_an_api_key_go_together_but_for_temporal_cloud(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-key")
    files = folder_files(CLIENT.write(tmp_path / "tls"), api_key=tmp_path / "key")

    assert files.read(OURS).api_key == "a-key"
    for address in (CLOUD, "us-east-1.aws.api.temporal.io:7233"):
        with pytest.raises(CredentialsError, match=r"found an API key .* and a client certificate .* expected one of"):
            files.read(address)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({}, "holds nothing, expected ca.crt, or tls.crt with tls.key"),
        ({"client.pem": b"x", "client.key": b"x"}, "holds client.key, client.pem, expected ca.crt, or tls.crt"),
        ({"tls.crt": CLIENT.certificate}, "holds tls.crt and no tls.key, expected both or neither; add tls.key"),
        ({"tls.key": CLIENT.key}, "holds tls.key and no tls.crt, expected both or neither; add tls.crt"),
        ({"ca.crt": b"MIIB"}, "ca.crt is no certificate as PEM, expected one that begins with -----BEGIN CERT"),
        ({"tls.crt": b"MIIB", "tls.key": CLIENT.key}, "tls.crt is no certificate as PEM"),
        ({"tls.crt": CLIENT.certificate, "tls.key": b"MIIB"}, "tls.key is no private key as PEM, expected one that"),
        ({"tls.crt": CLIENT.certificate, "tls.key": CLIENT.certificate}, "tls.key is no private key as PEM"),
        ({"tls.crt": CLIENT.certificate, "tls.key": encrypted_key(b"word")}, "tls.key is encrypted, expected a priv"),
        (
            {"tls.crt": CLIENT.certificate, "tls.key": CLIENTS.sign("other").key},
            r"tls.key is not the key of .*/tls.crt \(CN=perdure\), expected the two that were made together",
        ),
    ],
    ids=[
        "an empty folder",
        "other names",
        "no key",
        "no certificate",
        "authority is no PEM",
        "certificate is no PEM",
        "key is no PEM",
        "a certificate for a key",
        "passphrase",
        "somebody else's key",
    ],
)
def test_files_that_cannot_be_used_are_refused_saying_what_was_found(
    tmp_path: Path, contents: Mapping[str, bytes], says: str
) -> None:
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "..data").mkdir()  # the kubelet's

    with pytest.raises(CredentialsError, match=says) as refusal:
        folder_files(tmp_path).read(OURS)
    assert CLIENT.key.splitlines()[1].decode() not in str(refusal.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="not-there holds nothing that can be read, expected"):
        folder_files(tmp_path / "not-there").read(OURS)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").mkdir()

    with pytest.raises(CredentialsError, match=r"tls.crt cannot be read \(Is a directory\)"):
        folder_files(tmp_path).read(OURS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "key is not there or is empty, expected an API key; put one into the Secret"),
        (" \n", "key is not there or is empty"),
        ("sesame open", "key holds blanks, line breaks or characters beyond ASCII, expected an API key alone"),
        ("sesame\nopen", "key holds blanks, line breaks"),
        ("sesamé", "key holds blanks, line breaks or characters beyond ASCII"),
    ],
    ids=["not there", "empty", "a blank", "two lines", "beyond ASCII"],
)
def test_what_is_no_api_key_is_refused_without_telling_it(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)

    with pytest.raises(CredentialsError, match=says) as refusal:
        CredentialFiles(tls=True, api_key=tmp_path / "key").read(OURS)
    assert "sesame" not in str(refusal.value)


def test_credentials_show_no_keys_when_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    files = folder_files(CLIENT.write(tmp_path / "tls"), api_key=tmp_path / "key")

    shown = repr(files.read(OURS))

    assert "PRIVATE" not in shown
    assert "sesame" not in shown


def test_an_expired_certificate_is_read_all_the_same(tmp_path: Path) -> None:
    """The server has the last word, and a new one may be on its way."""
    files = folder_files(CLIENTS.sign("late", -DAY).write(tmp_path))

    assert files.read(OURS).tls


@pytest.mark.parametrize("main", [operator.main, worker.main], ids=["operator", "worker"])
def test_a_program_does_not_begin_with_credentials_that_cannot_be_used(
    main: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CLIENT.write(tmp_path)
    (tmp_path / "tls.key").write_bytes(CLIENTS.sign("other").key)
    environment = {**NEEDED, "PERDURE_TEMPORAL_TLS": "true", "PERDURE_TEMPORAL_TLS_DIR": str(tmp_path)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["perdure"])

    assert callable(main)
    assert main() == 64
    assert "tls.key is not the key of" in capsys.readouterr().err

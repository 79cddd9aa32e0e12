from __future__ import annotations

import pytest

from perdure_operator.settings import ReceiverSettings, Settings, SettingsError, settings_from

NEEDED = {"PERDURE_TEMPORAL_ADDRESS": "temporal:7233", "PERDURE_NAMESPACE": "perdure"}


def test_two_variables_are_enough() -> None:
    assert settings_from(NEEDED) == Settings(
        temporal_address="temporal:7233",
        temporal_namespace="default",
        log_level="info",
        http_port=8080,
        namespace="perdure",
        watched_namespaces=(),
        receiver=None,
    )


def test_watched_namespaces_are_a_list_with_commas() -> None:
    assert settings_from({**NEEDED, "PERDURE_WATCH_NAMESPACES": " b, a,,b "}).watched_namespaces == ("a", "b")


def test_a_secret_brings_the_receiver() -> None:
    receiver = {"PERDURE_PROGRESS_SECRET": "tls", "PERDURE_PROGRESS_SERVICE": "progress"}

    assert settings_from({**NEEDED, **receiver}).receiver == ReceiverSettings(secret="tls", service="progress")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PERDURE_NAMESPACE": "perdure"}, "PERDURE_TEMPORAL_ADDRESS is not set"),
        ({"PERDURE_TEMPORAL_ADDRESS": "temporal:7233"}, "PERDURE_NAMESPACE is not set"),
        ({**NEEDED, "PERDURE_LOG_LEVEL": "loud"}, 'PERDURE_LOG_LEVEL is "loud", expected one of debug, info'),
        ({**NEEDED, "PERDURE_HTTP_PORT": "http"}, 'PERDURE_HTTP_PORT is "http", expected a port'),
        ({**NEEDED, "PERDURE_HTTP_PORT": "65536"}, 'PERDURE_HTTP_PORT is "65536", expected a port'),
        ({**NEEDED, "PERDURE_PROGRESS_SECRET": "tls"}, "PERDURE_PROGRESS_SERVICE is not set"),
    ],
    ids=["no Temporal", "no namespace", "level", "port name", "port too high", "secret without service"],
)
def test_what_makes_no_sense_is_refused_saying_what_was_found(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_from(environment)

from __future__ import annotations

import pytest

from perdure_control.settings import SettingsError
from perdure_operator.admission import Limits
from perdure_operator.settings import ReceiverSettings, Settings, settings_from

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
        scaler=None,
        limits=Limits(),
    )


def test_watched_namespaces_are_a_list_with_commas() -> None:
    assert settings_from({**NEEDED, "PERDURE_WATCH_NAMESPACES": " b, a,,b "}).watched_namespaces == ("a", "b")


def test_a_secret_brings_the_receiver() -> None:
    receiver = {"PERDURE_PROGRESS_SECRET": "tls", "PERDURE_PROGRESS_SERVICE": "progress"}

    assert settings_from({**NEEDED, **receiver}).receiver == ReceiverSettings(secret="tls", service="progress")


def test_another_secret_brings_the_scalers_certificate() -> None:
    settings = settings_from({**NEEDED, "PERDURE_SCALER_SECRET": "tls", "PERDURE_SCALER_SERVICE": "scaler"})

    assert settings.scaler == ReceiverSettings(secret="tls", service="scaler")
    assert settings.receiver is None


def test_a_pattern_brings_versions_of_the_workers() -> None:
    assert settings_from({**NEEDED, "PERDURE_WORKER_PATTERN": "perdure-worker"}).worker_pattern == "perdure-worker"


def test_limits_are_of_the_cluster_of_each_namespace_and_of_some_namespaces() -> None:
    limits = {
        "PERDURE_MAX_CONCURRENT_JOBS": "40",
        "PERDURE_MAX_CONCURRENT_JOBS_PER_NAMESPACE": "4",
        "PERDURE_NAMESPACE_LIMITS": "ml=8, trial=0",
    }

    assert settings_from({**NEEDED, **limits}).limits == Limits(40, 4, {"ml": 8, "trial": 0})


def test_limits_that_are_left_empty_are_none() -> None:
    empty = {"PERDURE_MAX_CONCURRENT_JOBS": "", "PERDURE_NAMESPACE_LIMITS": ""}

    assert settings_from({**NEEDED, **empty}).limits.unlimited


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PERDURE_NAMESPACE": "perdure"}, "PERDURE_TEMPORAL_ADDRESS is not set"),
        ({"PERDURE_TEMPORAL_ADDRESS": "temporal:7233"}, "PERDURE_NAMESPACE is not set"),
        ({**NEEDED, "PERDURE_LOG_LEVEL": "loud"}, 'PERDURE_LOG_LEVEL is "loud", expected one of debug, info'),
        (
            {**NEEDED, "PERDURE_HTTP_PORT": "http"},
            'PERDURE_HTTP_PORT is "http", expected a whole number from 1 to 65535',
        ),
        (
            {**NEEDED, "PERDURE_HTTP_PORT": "65536"},
            'PERDURE_HTTP_PORT is "65536", expected a whole number from 1 to 65535',
        ),
        ({**NEEDED, "PERDURE_PROGRESS_SECRET": "tls"}, "PERDURE_PROGRESS_SERVICE is not set"),
        ({**NEEDED, "PERDURE_MAX_CONCURRENT_JOBS": "-1"}, 'CONCURRENT_JOBS is "-1", expected how many TrainingJobs'),
        ({**NEEDED, "PERDURE_MAX_CONCURRENT_JOBS_PER_NAMESPACE": "1.5"}, 'PER_NAMESPACE is "1.5", expected how many'),
        ({**NEEDED, "PERDURE_NAMESPACE_LIMITS": "ml=many"}, 'has the entry "ml=many", expected a namespace and how'),
        ({**NEEDED, "PERDURE_NAMESPACE_LIMITS": "ml=1,=2"}, 'has the entry "=2", expected a namespace and how'),
    ],
    ids=[
        "no Temporal",
        "no namespace",
        "level",
        "port name",
        "port too high",
        "secret without service",
        "negative limit",
        "half a job",
        "limit of a namespace that is none",
        "limit of no namespace",
    ],
)
def test_what_makes_no_sense_is_refused_saying_what_was_found(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_from(environment)

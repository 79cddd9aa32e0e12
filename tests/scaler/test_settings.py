from __future__ import annotations

import json

import pytest

from perdure_control.settings import SettingsError
from perdure_scaler.demand import Queue
from perdure_scaler.settings import ScaledQueue, TaskType, settings_from

NEEDED = {
    "PERDURE_TEMPORAL_ADDRESS": "temporal:7233",
    "PERDURE_NAMESPACE": "perdure",
    "PERDURE_SCALER_WORKERS": "app=worker",
    "PERDURE_SCALER_QUEUES": '[{"queue": "perdure-cpu"}]',
}


def queues_of(*entries: object) -> tuple[ScaledQueue, ...]:
    return settings_from({**NEEDED, "PERDURE_SCALER_QUEUES": json.dumps(entries)}).queues


def test_a_queue_is_in_the_workers_temporal_namespace_and_counts_every_type() -> None:
    settings = settings_from({**NEEDED, "PERDURE_TEMPORAL_NAMESPACE": "training"})

    assert settings.queues == (
        ScaledQueue(Queue("training", "perdure-cpu"), (TaskType.WORKFLOW, TaskType.ACTIVITY), ""),
    )
    assert settings.tls_folder is None


def test_a_queue_of_odd_characters_is_selected_by_its_label() -> None:
    (queue,) = queues_of({"queue": "gpu/größe: 4", "label": "gpu-4", "types": ["activity"], "temporalNamespace": "x"})

    assert queue.queue == Queue("x", "gpu/größe: 4")
    assert queue.types == (TaskType.ACTIVITY,)
    assert queue.labels == {"queue": "gpu-4", "temporal_namespace": "x"}


def test_queues_of_the_same_name_in_several_temporal_namespaces_are_several() -> None:
    assert len(queues_of({"queue": "a"}, {"queue": "a", "temporalNamespace": "other"})) == 2


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("", "PERDURE_SCALER_QUEUES is not set"),
        ("{", "PERDURE_SCALER_QUEUES is no JSON"),
        ("[]", "expected one task queue or more"),
        ('[{"name": "a"}]', 'has the entry {"name": "a"}, expected one such as {"queue": "perdure-cpu"}'),
        ('[{"queue": "a", "type": "activity"}]', "has type in an entry, expected queue, temporalNamespace"),
        ('[{"queue": "a", "types": ["nexus"]}]', "has the types ['nexus'], expected some of workflow, activity"),
        ('[{"queue": "a/b"}]', '"a/b" cannot be the queue in a selector'),
        ('[{"queue": "a"}, {"queue": "a"}]', "names a task queue twice"),
    ],
)
def test_queues_that_make_no_sense_are_refused_with_a_sentence(entries: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings_from({**NEEDED, "PERDURE_SCALER_QUEUES": entries})

    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PERDURE_SCALER_HOLD_SECONDS": "0"}, 'PERDURE_SCALER_HOLD_SECONDS is "0", expected a whole number from 5'),
        ({"PERDURE_SCALER_WORKERS": ""}, "PERDURE_SCALER_WORKERS is not set"),
        ({"PERDURE_SCALER_TLS_DIR": "/tls"}, "PERDURE_SCALER_SERVICE is not set"),
        ({"PERDURE_LOG_LEVEL": "loud"}, 'PERDURE_LOG_LEVEL is "loud"'),
    ],
)
def test_what_else_makes_no_sense_is_refused_with_a_sentence(variables: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings_from({**NEEDED, **variables})

    assert says in str(raised.value)

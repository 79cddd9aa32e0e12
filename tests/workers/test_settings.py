from __future__ import annotations

import pytest
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion

from perdure_control.settings import SettingsError
from perdure_workers.process import deployment_config
from perdure_workers.settings import WorkerSettings


def test_without_a_build_workers_have_no_version() -> None:
    settings = WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": ""})

    assert settings.version is None
    assert deployment_config(settings) is None


def test_a_workflow_stays_with_the_build_that_it_began_on() -> None:
    config = deployment_config(WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": "0.1.0-1a2b3c4d"}))

    assert config
    assert config.version == WorkerDeploymentVersion("perdure", "0.1.0-1a2b3c4d")
    assert config.use_worker_versioning
    assert config.default_versioning_behavior is VersioningBehavior.PINNED


@pytest.mark.parametrize("build", ["a b", "-a", "a:b", "a" * 64])
def test_a_build_is_what_a_label_may_be(build: str) -> None:
    with pytest.raises(SettingsError, match=f'PERDURE_WORKER_BUILD is "{build}", expected at most 63 letters'):
        WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": build})

"""The quick-start Temporal, run with what the chart tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.testing import WorkflowEnvironment

from tests.chart.rendered import Chart, Values

pytestmark = pytest.mark.temporal


async def test_it_answers_the_polls_of_a_worker_that_stops(chart: Chart, everything: Values) -> None:
    """So nothing is given to one that hangs up in that moment."""
    pod = chart.one("StatefulSet", "perdure-temporal", everything)["spec"]["template"]["spec"]
    told = [word for word in pod["containers"][0]["args"] if word.startswith("--dynamic-config-value=")]

    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")), dev_server_extra_args=told
    ) as environment:
        request = DescribeNamespaceRequest(namespace=environment.client.namespace)
        found = await environment.client.workflow_service.describe_namespace(request)

    assert found.namespace_info.capabilities.worker_poll_complete_on_shutdown

"""What Temporal's frontend was asked."""

from __future__ import annotations

from bench.cluster import temporal

PAGE = """\
# TYPE service_requests counter
service_requests{namespace="default",operation="RecordActivityTaskHeartbeat",service_name="frontend"} 40
service_requests{namespace="other",operation="RecordActivityTaskHeartbeat",service_name="frontend"} 2
service_requests{namespace="default",operation="RecordActivityTaskHeartbeat",service_name="history"} 40
service_requests{namespace="default",operation="StartWorkflowExecution",service_name="frontend"} 7
service_requests_of_something_else{operation="StartWorkflowExecution",service_name="frontend"} 7
"""


def test_requests_are_counted_where_they_come_in_and_once() -> None:
    assert temporal.by_operation(PAGE) == {"RecordActivityTaskHeartbeat": 42, "StartWorkflowExecution": 7}

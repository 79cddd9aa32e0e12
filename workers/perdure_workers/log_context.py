"""Every line that an activity logs says which job it is about."""

from __future__ import annotations

from typing import Any

from structlog.contextvars import bound_contextvars
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from perdure_api.workflow import JobRef
from perdure_control.logs import about


class LogContext(Interceptor):
    """Binds the activity, its workflow and its job while it runs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's name
        """See the base class."""
        return _Binding(next)


class _Binding(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        info = activity.info()
        job = getattr(input.args[0], "job", None) if input.args else None
        fields = about(job) if isinstance(job, JobRef) else {"workflow_id": info.workflow_id}
        with bound_contextvars(activity=info.activity_type, **fields):
            return await super().execute_activity(input)

"""The checks of a process as a metric."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from perdure_control.health import CheckCollector, Checks


def test_each_check_is_a_metric_that_says_whether_it_passes() -> None:
    registry = CollectorRegistry()
    problems: dict[str, str | None] = {"watch": None, "polling": "not yet", "temporal": None}
    checks = Checks(
        live={"watch": lambda: problems["watch"]},
        ready={"polling": lambda: problems["polling"]},
        told={"temporal": lambda: problems["temporal"]},
    )
    registry.register(CheckCollector(checks))

    def passes(kind: str, check: str) -> float | None:
        return registry.get_sample_value("perdure_check_passes", {"kind": kind, "check": check})

    assert (passes("live", "watch"), passes("ready", "polling"), passes("told", "temporal")) == (1, 0, 1)
    problems["temporal"] = "away"
    assert passes("told", "temporal") == 0

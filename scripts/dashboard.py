"""Makes the Grafana dashboard of the chart, by Grafana's Foundation SDK; `--check` says whether the file is fresh.

The SDK knows every field of a dashboard, so a misspelt one does not come to light in somebody's Grafana. Its types are
those of Grafana 10.4: later ones read older dashboards, and not the other way round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

FILE: Final = Path(__file__).resolve().parents[1] / "charts" / "perdure" / "files" / "dashboard.json"
WIDTH: Final = 24
"""Columns of a dashboard."""
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
INSTALLATIONS: Final = "label_values(perdure_operator_temporal_up, namespace)"


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and what its lines are called; `$here` picks the installation that is shown."""

    expression: str
    legend: str = ""

    @property
    def text(self) -> str:
        """The expression as Grafana gets it."""
        return self.expression.replace("$here", 'namespace="$namespace"')


@dataclass(frozen=True)
class Number:
    """A panel with one number."""

    title: str
    query: str
    unit: str = "short"
    description: str = ""
    colours: Sequence[tuple[float | None, str]] = ()
    """From which value on it has which colour; none: it has no colour."""


@dataclass(frozen=True)
class Lines:
    """A panel with lines over time."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    description: str = ""
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels beside each other, of the same width."""

    height: int
    panels: Sequence[Number | Lines] = field(default_factory=list)


GOOD_FROM_ONE: Final = ((None, "red"), (1.0, "green"))
BAD_FROM_ONE: Final = ((None, "green"), (1.0, "red"))

ROWS: Final = (
    Row(
        4,
        [
            Number("Jobs running", 'sum(perdure_operator_trainingjobs{$here,phase="Running"})'),
            Number("Jobs in line", "sum(perdure_operator_waiting_jobs{$here})"),
            Number("Oldest wait for a first turn", "max(perdure_operator_oldest_waiting_age_seconds{$here})", "s"),
            Number(
                "Workers that poll",
                'count(perdure_check_passes{$here,kind="ready",check="polling"} == 1)',
                colours=GOOD_FROM_ONE,
            ),
            Number(
                "Temporal answers",
                'min(perdure_check_passes{$here,check="temporal"})',
                description="1: every pod reaches it.",
                colours=GOOD_FROM_ONE,
            ),
            Number(
                "Workflows whose code fails",
                'sum(perdure_operator_unfinished_trainingjobs{$here,reason="WorkflowFailing"}) or vector(0)',
                colours=BAD_FROM_ONE,
            ),
        ],
    ),
    Row(
        8,
        [
            Lines(
                "Jobs by phase",
                [Query('sum by (phase) (perdure_operator_trainingjobs{$here,phase!~"Succeeded|Failed"})', "{{phase}}")],
                description="Without those that are finished.",
                stacked=True,
            ),
            Lines(
                "Unfinished jobs by reason",
                [Query("sum by (reason) (perdure_operator_unfinished_trainingjobs{$here})", "{{reason}}")],
                description="What each does, or waits for.",
                stacked=True,
            ),
        ],
    ),
    Row(
        8,
        [
            Lines(
                "Attempts ended, by outcome",
                [
                    Query(
                        "sum by (reason) (increase(perdure_attempts_ended_total{$here}[$__rate_interval])) > 0",
                        "{{reason}}",
                    )
                ],
                stacked=True,
            ),
            Lines(
                "Line and slots",
                [
                    Query("sum(perdure_operator_waiting_jobs{$here})", "in line"),
                    Query("sum(perdure_operator_slots_used{$here})", "slots used"),
                    Query("sum(perdure_operator_slots{$here} < +Inf)", "slots"),
                ],
            ),
        ],
    ),
    Row(
        8,
        [
            Lines(
                "Work of the task queues",
                [
                    Query("max by (queue) (perdure_task_queue_demand{$here})", "{{queue}}: demand"),
                    Query("max by (queue) (perdure_task_queue_backlog{$here})", "{{queue}}: of that, waiting"),
                ],
                description="With scaler.enabled. Each replica tells the same; no line: it is not known.",
            ),
            Lines(
                "Workers, and what they do",
                [
                    Query('count(perdure_check_passes{$here,kind="ready",check="polling"} == 1)', "workers that poll"),
                    Query("sum by (queue) (perdure_worker_slots_used{$here})", "{{queue}}: activities that run"),
                ],
            ),
            Lines(
                "Work that failed for good, and circuit breakers",
                [
                    Query("max by (workflow) (perdure_dead_letters{$here})", "{{workflow}}: dead letters"),
                    Query(
                        'count by (activity, state) (perdure_breaker_state{$here,state!="closed"} == 1)',
                        "{{activity}}: {{state}}, in so many workers",
                    ),
                ],
                description="`perdure dead-letters list` and `perdure top` say more.",
            ),
        ],
    ),
    Row(
        7,
        [
            Lines(
                "From creation to workflow",
                [
                    Query(f"histogram_quantile({share}, sum by (le) (rate({bucket}[$__rate_interval])))", legend)
                    for bucket in ["perdure_operator_start_lag_seconds_bucket{$here}"]
                    for share, legend in [(0.5, "median"), (0.95, "95 %")]
                ],
                "s",
            ),
            Lines(
                "Operator: looks at jobs, by result",
                [
                    Query(
                        "sum by (result) (rate(perdure_operator_reconciles_total{$here}[$__rate_interval]))",
                        "{{result}}",
                    ),
                    Query("sum(perdure_operator_queue_length{$here})", "jobs that wait to be looked at"),
                ],
                description="A second; and how many wait.",
            ),
            Lines(
                "Progress reports, by answer",
                [
                    Query(
                        "sum by (result) (rate(perdure_progress_reports_total{$here}[$__rate_interval]))", "{{result}}"
                    )
                ],
                "reqps",
            ),
        ],
    ),
    Row(
        7,
        [
            Lines(
                "API server: answers that are errors",
                [
                    Query(
                        "sum by (container, resource, code) "
                        '(rate(perdure_kubernetes_requests_total{$here,code!~"2..|404|409"}[$__rate_interval])) > 0',
                        "{{container}} {{resource}} {{code}}",
                    )
                ],
                "reqps",
                "404 and 409 are part of the work.",
            ),
            Lines(
                "Checks that fail",
                [Query("min by (pod, check) (perdure_check_passes{$here}) == 0", "{{pod}}: {{check}}")],
                description="Temporal, watches, certificate, versions; /readyz says why.",
            ),
            Lines(
                "Watches: since something was heard",
                [
                    Query("max by (pod, resource) (perdure_watch_heard_age_seconds{$here})", "{{pod}} {{resource}}"),
                    Query("max by (pod) (perdure_operator_watch_checked_age_seconds{$here})", "{{pod}}"),
                ],
                "s",
            ),
        ],
    ),
    Row(
        7,
        [
            Lines(
                "Memory",
                [Query('process_resident_memory_bytes{$here,container=~"operator|worker|scaler"}', "{{pod}}")],
                "bytes",
            ),
            Lines(
                "CPU",
                [
                    Query(
                        'rate(process_cpu_seconds_total{$here,container=~"operator|worker|scaler"}[$__rate_interval])',
                        "{{pod}}",
                    )
                ],
                description="Cores.",
            ),
            Lines(
                "Watched, and versions of the workers",
                [
                    Query("max(perdure_watched_jobs{$here})", "Jobs"),
                    Query("max(perdure_watched_pods{$here})", "pods"),
                    Query("count by (state) (perdure_operator_worker_versions{$here})", "versions: {{state}}"),
                ],
                description="Of Jobs and pods every worker watches all.",
            ),
        ],
    ),
)


def text() -> str:
    """The dashboard as JSON."""
    built = (
        dashboard.Dashboard("Perdure")
        .uid("perdure")
        .tags(["perdure"])
        .refresh("1m")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("namespace")
            .label("Namespace")
            .datasource(SOURCE)
            .query(INSTALLATIONS)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    top = number = 0
    for row in ROWS:
        width = WIDTH // len(row.panels)
        for index, panel in enumerate(row.panels):
            number += 1
            place = model.GridPos(h=row.height, w=width, x=index * width, y=top)
            built = built.with_panel(_panel(panel).id(number).grid_pos(place))
        top += row.height
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _panel(panel: Number | Lines) -> stat.Panel | timeseries.Panel:
    match panel:
        case Number():
            made: stat.Panel | timeseries.Panel = _number(panel)
        case Lines():
            made = _lines(panel)
    return made.description(panel.description) if panel.description else made


def _number(panel: Number) -> stat.Panel:
    colour = options.BigValueColorMode.VALUE if panel.colours else options.BigValueColorMode.NONE
    steps = [model.Threshold(value=value, color=name) for value, name in panel.colours or [(None, "green")]]
    return (
        stat.Panel()
        .title(panel.title)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(colour)
        .graph_mode(options.BigValueGraphMode.NONE)
        .with_target(_target("A", Query(panel.query)))
    )


def _lines(panel: Lines) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .draw_style(options.GraphDrawStyle.LINE)
        .fill_opacity(40 if panel.stacked else 10)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if panel.stacked:
        made = made.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    for name, query in zip("ABCDEFGH", panel.queries, strict=False):
        made = made.with_target(_target(name, query))
    return made


def _target(name: str, query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(name).datasource(SOURCE).expr(query.text).legend_format(query.legend)


def main() -> int:
    """The exit status: 0, or 1 where `--check` finds another file than this makes."""
    if sys.argv[1:] == ["--check"]:
        if FILE.exists() and FILE.read_text() == text():
            return 0
        print(f"{FILE} is not what scripts/dashboard.py makes; run `make generate`", file=sys.stderr)
        return 1
    FILE.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

import pytest
import yaml

from tests.chart.rendered import CHART, CI_VALUES, Chart, Values


@pytest.fixture
def chart() -> Chart:
    return Chart()


@pytest.fixture(params=CI_VALUES, ids=lambda path: path.stem.removesuffix("-values"))
def ci_values(request: pytest.FixtureRequest) -> Values:
    """Each of the chart's own sample values in turn."""
    values: Values = yaml.safe_load(request.param.read_text())
    return values


@pytest.fixture
def everything() -> Values:
    """Values with which every component is rendered."""
    values: Values = yaml.safe_load((CHART / "ci" / "devcluster-values.yaml").read_text())
    return values

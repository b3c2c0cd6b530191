"""What the five dashboards are built from: selectors, rates and quantiles; panels; variables.

Everything common to all of them is decided here once: every expression selects by `$job` (and, where the
series belongs to one agent, by `$instance`), rates use `$__rate_interval`, quantiles come from summed
buckets, and a ratio whose whole is 0 is absent rather than NaN. What is shown is in dashboards.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as commons
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models import prometheus as queries

WIDTH = 24
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"

# Narrow what is shown to the chosen topics, groups, operations.
TOPIC = 'topic=~"$topic"'
GROUP = 'consumer_group=~"$consumer_group"'
OPERATION = 'operation=~"$operation"'


# Expressions

def _labels(*selectors: str) -> str:
    return "{" + ", ".join(selectors) + "}"


def of_agents(name: str, *selectors: str) -> str:
    """A series that each agent counts for itself."""
    return name + _labels('job=~"$job"', 'instance=~"$instance"', *selectors)


def of_cluster(name: str, *selectors: str) -> str:
    """A gauge of the whole system. One agent shows it, whichever that is: `$instance` must not hide it."""
    return name + _labels('job=~"$job"', *selectors)


def by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


def rate(name: str, *selectors: str, per: str = "") -> str:
    return f"sum{by(per)}(rate({of_agents('streamhouse_' + name, *selectors)}[$__rate_interval]))"


def quantile(q: float, name: str, *selectors: str, per: str = "") -> str:
    labels = f"le, {per}" if per else "le"
    return f"histogram_quantile({q:g}, {rate(name + '_bucket', *selectors, per=labels)})"


def ratio(part: str, whole: str) -> str:
    """`part / whole`, and nothing while the whole is 0."""
    return f"{part} / ({whole} > 0)"


def mean(name: str, *selectors: str, per: str = "") -> str:
    return ratio(rate(name + "_sum", *selectors, per=per), rate(name + "_count", *selectors, per=per))


# Panels

@dataclass(frozen=True)
class Query:
    expression: str
    legend: str = ""


# (from this value on, colour); the first holds from minus infinity.
Limits = list[tuple[float | None, str]]
PLAIN: Limits = [(None, BLUE)]


def rising(warning: float, critical: float) -> Limits:
    """More is worse."""
    return [(None, GREEN), (warning, YELLOW), (critical, RED)]


def falling(warning: float, good: float) -> Limits:
    """Less is worse."""
    return [(None, RED), (warning, YELLOW), (good, GREEN)]


def _targets(panel, wanted: list[Query], instant: bool = False, kind: queries.PromQueryFormat | None = None):
    for number, query in enumerate(wanted):
        target = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        target = target.instant() if instant else target.range()
        if query.legend:
            target = target.legend_format(query.legend)
        if kind:
            target = target.format(kind)
        panel = panel.with_target(target)
    return panel


def _described(panel, title: str, says: str, unit: str, limits: Limits, width: int, height: int):
    steps = [models.Threshold(value, colour) for value, colour in limits]
    return (
        panel.title(title).description(says).unit(unit).datasource(SOURCE).span(width).height(height)
        .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    )


def number(title: str, says: str, unit: str, wanted: list[Query], limits: Limits, width: int = 6, height: int = 5,
           decimals: int | None = None):
    """One large figure, coloured by its limits."""
    panel = _described(stat.Panel(), title, says, unit, limits, width, height)
    panel = panel.color_mode(commons.BigValueColorMode.BACKGROUND).graph_mode(commons.BigValueGraphMode.AREA)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("no traffic")
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _targets(panel, wanted)


def lines(title: str, says: str, unit: str, wanted: list[Query], limits: Limits = PLAIN, width: int = 8,
          stacked: bool = False, most: float | None = None):
    """Curves over time; limits beyond the first are drawn as dashed lines."""
    panel = _described(timeseries.Panel(), title, says, unit, limits, width, 8).min(0)
    if most is not None:
        panel = panel.max(most)
    legend = common.VizLegendOptions().display_mode(commons.LegendDisplayMode.TABLE).show_legend(True)
    legend = legend.placement(commons.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]).sort_by("Max").sort_desc(True)
    panel = panel.legend(legend).fill_opacity(10).show_points(commons.VisibilityMode.NEVER)
    panel = panel.tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.MULTI).sort(commons.SortOrder.DESCENDING))
    if len(limits) > 1:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(commons.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(commons.StackingMode.NORMAL)).fill_opacity(60)
    return _targets(panel, wanted)


def buckets(title: str, says: str, unit: str, histogram: str, *selectors: str, width: int = 8):
    """How the observations of a histogram spread over its buckets, as a heat map."""
    panel = _described(heatmap.Panel(), title, says, unit, PLAIN, width, 8)
    colours = heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
    panel = panel.calculate(False).color(colours).y_axis(heatmap.YAxisConfig().unit(unit))
    expression = f"sum by (le) (increase({of_agents(f'streamhouse_{histogram}_bucket', *selectors)}[$__rate_interval]))"
    return _targets(panel, [Query(expression, "{{le}}")], kind=queries.PromQueryFormat.HEATMAP)


def states(title: str, says: str, wanted: list[Query], names: dict[int, tuple[str, str]], width: int = 8):
    """What each thing was, over time: numbers shown as words and colours."""
    limits: Limits = [(None if at == 0 else value, colour) for at, (value, (_, colour)) in enumerate(sorted(names.items()))]
    panel = _described(statetimeline.Panel(), title, says, "short", limits, width, 8)
    words = {str(value): models.ValueMappingResult(text=word, color=colour) for value, (word, colour) in names.items()}
    panel = panel.mappings([models.ValueMap(words)]).show_value(commons.VisibilityMode.NEVER).row_height(0.8)
    return _targets(panel, wanted)


def worst(title: str, says: str, unit: str, expression: str, limits: Limits, width: int = 8):
    """A table of what is worst now, largest first."""
    panel = _described(table.Panel(), title, says, unit, limits, width, 8)
    panel = panel.sort_by([common.TableSortByFieldState().display_name("Value").desc(True)])
    panel = panel.with_transformation(models.DataTransformerConfig("organize", options={"excludeByName": {"Time": True}}))
    return _targets(panel, [Query(expression)], instant=True, kind=queries.PromQueryFormat.TABLE)


# Dashboards

# label: the series that has every value of it, and of what else it depends on.
_VARIABLES = {
    "job": ("streamhouse_build_info", ""),
    "instance": ("streamhouse_build_info", 'job=~"$job"'),
    "topic": ("streamhouse_partitions_total", 'job=~"$job"'),
    "consumer_group": ("streamhouse_consumer_group_members", 'job=~"$job"'),
    "operation": ("streamhouse_s3_requests_total", 'job=~"$job"'),
}
ALL = models.VariableOption(selected=True, text=["All"], value=["$__all"])


def _variable(label: str):
    series, selector = _VARIABLES[label]
    where = _labels(selector) if selector else ""
    variable = dashboard.QueryVariable(label).label(label.replace("_", " ")).datasource(SOURCE)
    # "All" is one pattern, not a list of ten thousand topics; it also matches the empty label.
    variable = variable.query(f"label_values({series}{where}, {label})").include_all(True).all_value(".*").current(ALL)
    return variable.multi(True).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def board(uid: str, title: str, says: str, variables: list[str], panels: list[Callable]) -> models.Dashboard:
    made = (
        dashboard.Dashboard(f"StreamHouse / {title}").uid(f"streamhouse-{uid}").description(says).tags(["streamhouse"])
        .time("now-1h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).readonly()
        .link(
            dashboard.DashboardLink("StreamHouse").type(models.DashboardLinkType.DASHBOARDS).tags(["streamhouse"])
            .as_dropdown(True).include_vars(True).keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
    )
    for label in ["job", "instance", *variables]:
        made = made.with_variable(_variable(label))
    for place, panel in enumerate(panels):
        made = made.with_panel(panel.id(place + 1))
    return made.build()

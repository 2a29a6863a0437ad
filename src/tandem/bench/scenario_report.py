"""The report of the load scenarios, as Markdown and as a page that needs nothing else."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.resources import files

import jinja2
import msgspec

from tandem import __version__
from tandem.bench.latency import SEGMENTS, TOTAL
from tandem.bench.scenario_runner import Outcome

_TEMPLATE = files("tandem") / "assets" / "bench" / "scenarios.html"
#: The plots' size, in their own units.
_WIDTH, _HEIGHT = 320, 120


class ScenarioReport(msgspec.Struct, frozen=True):
    version: str
    machine: str
    outcomes: list[Outcome]

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


def make_report(outcomes: Sequence[Outcome]) -> ScenarioReport:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return ScenarioReport(__version__, machine, list(outcomes))


def verdict(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def as_markdown(report: ScenarioReport) -> str:
    lines = ["# Load scenarios", "", f"Tandem {report.version}, {report.machine}.", ""]
    lines += ["| scenario | requests | in | total mean | total p95 | first token mean | verdict |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [_summary(outcome) for outcome in report.outcomes]
    for outcome in report.outcomes:
        lines += ["", f"## {outcome.scenario.name}", ""]
        lines += [
            "| ms | count | mean | median | p95 | p99 | max |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {s.count} | " + " | ".join(f"{value:.2f}" for value in s.figures) + " |"
            for name, s in outcome.rows
        ]
        lines += ["", "| check | measured | bound | |", "|---|---|---|---|"]
        lines += [
            f"| {check.name} | {check.value} | {check.bound} | {verdict(check.passed)} |"
            for check in outcome.checks
        ]
        lines += [f"- failed: {failure}" for failure in outcome.failures]
    return "\n".join([*lines, ""])


def as_page(report: ScenarioReport) -> str:
    """HTML with the decomposition and the distributions as plots."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {
        "verdict": verdict,
        "share": _share,
        "curve": _curve,
        "segments": SEGMENTS,
        "width": _WIDTH,
        "height": _HEIGHT,
    }
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(report=report)


def _summary(outcome: Outcome) -> str:
    total, first = outcome.stats.get(TOTAL), outcome.stats.get("ttft")
    times = [
        "-" if value is None else f"{value:.0f} ms"
        for value in (total and total.mean, total and total.p95, first and first.mean)
    ]
    cells = [
        outcome.scenario.name,
        str(outcome.scenario.requests),
        f"{outcome.taken_s:.1f} s",
        *times,
        verdict(outcome.passed),
    ]
    return f"| {' | '.join(cells)} |"


def _share(outcome: Outcome, segment: str) -> float:
    """How much of the mean total a segment is, in percent."""
    if segment not in outcome.stats:
        return 0.0
    return 100 * max(0.0, outcome.stats[segment].mean) / outcome.stats[TOTAL].mean


def _curve(outcome: Outcome, segment: str) -> str:
    """The part of requests done by a time, as the points of a line; the axis ends at the max."""
    values = sorted(sample[segment] for sample in outcome.samples if segment in sample)
    if not values or values[-1] <= 0:
        return ""
    points = [(0.0, 0.0)]
    for number, value in enumerate(values):
        points += [(value, number / len(values)), (value, (number + 1) / len(values))]
    return " ".join(
        f"{_WIDTH * value / values[-1]:.1f},{_HEIGHT * (1 - part):.1f}" for value, part in points
    )

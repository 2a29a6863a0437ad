"""Measurements that anybody can repeat: real services, side by side in one run.

The face of the package. What it names is loaded when it is first asked for: some of it brings
PyTorch along, and who measures a coordinator must not have that in his process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.runtime import on_demand

if TYPE_CHECKING:
    from tandem.bench.cluster import ClusterReport, measure_cluster
    from tandem.bench.contenders import (
        CONTEXT,
        MAX_BATCH,
        Contender,
        Generator,
        Job,
        Times,
        Wanted,
    )
    from tandem.bench.engine import (
        BF16,
        INT4,
        INT8,
        OWN,
        EngineFigure,
        EngineReport,
        Ratios,
        Shapes,
        Streams,
        Work,
        measure_engines,
        own_ratios,
        ratio,
    )
    from tandem.bench.latency import Stats
    from tandem.bench.link import Latency, measure_link
    from tandem.bench.scenario_report import (
        ScenarioReport,
        as_markdown,
        as_page,
        make_report,
        verdict,
    )
    from tandem.bench.scenario_runner import Outcome, create_models, run_scenario
    from tandem.bench.scenarios import SCENARIOS, Scenario
    from tandem.bench.service import HOST, BenchmarkFailed, running_service
    from tandem.bench.slow_link import delayed_port
    from tandem.bench.soak import SoakReport, run_soak
    from tandem.bench.speculative import (
        SpeculativeJob,
        SpeculativeReport,
        create_pair,
        measure_speculative,
    )
    from tandem.bench.streams import Consumer, TimedAnswer, complete_chat

__all__ = [
    "BF16",
    "CONTEXT",
    "HOST",
    "INT4",
    "INT8",
    "MAX_BATCH",
    "OWN",
    "SCENARIOS",
    "BenchmarkFailed",
    "ClusterReport",
    "Consumer",
    "Contender",
    "EngineFigure",
    "EngineReport",
    "Generator",
    "Job",
    "Latency",
    "Outcome",
    "Ratios",
    "Scenario",
    "ScenarioReport",
    "Shapes",
    "SoakReport",
    "SpeculativeJob",
    "SpeculativeReport",
    "Stats",
    "Streams",
    "TimedAnswer",
    "Times",
    "Wanted",
    "Work",
    "as_markdown",
    "as_page",
    "complete_chat",
    "create_models",
    "create_pair",
    "delayed_port",
    "make_report",
    "measure_cluster",
    "measure_engines",
    "measure_link",
    "measure_speculative",
    "own_ratios",
    "ratio",
    "run_scenario",
    "run_soak",
    "running_service",
    "verdict",
]

if not TYPE_CHECKING:  # to a type checker a name that is not imported above does not exist
    __getattr__ = on_demand(
        __name__,
        {
            "cluster": ("ClusterReport", "measure_cluster"),
            "contenders": (
                "CONTEXT",
                "MAX_BATCH",
                "Contender",
                "Generator",
                "Job",
                "Times",
                "Wanted",
            ),
            "engine": (
                *(
                    "BF16",
                    "INT4",
                    "INT8",
                    "OWN",
                    "EngineFigure",
                    "EngineReport",
                    "Ratios",
                    "Shapes",
                ),
                *("Streams", "Work", "measure_engines", "own_ratios", "ratio"),
            ),
            "slow_link": ("delayed_port",),
            "latency": ("Stats",),
            "link": ("Latency", "measure_link"),
            "scenario_report": (
                "ScenarioReport",
                "as_markdown",
                "as_page",
                "make_report",
                "verdict",
            ),
            "scenario_runner": ("Outcome", "create_models", "run_scenario"),
            "scenarios": ("SCENARIOS", "Scenario"),
            "service": ("HOST", "BenchmarkFailed", "running_service"),
            "soak": ("SoakReport", "run_soak"),
            "speculative": (
                *("SpeculativeJob", "SpeculativeReport", "create_pair", "measure_speculative"),
            ),
            "streams": ("Consumer", "TimedAnswer", "complete_chat"),
        },
    )

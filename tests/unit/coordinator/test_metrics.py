"""What is counted, and that nobody outside can invent a name."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from tests.support.ineligible import MODEL, ready
from tests.support.registered import beat, join, make_registry
from tests.support.stores import MemoryLedger

from tandem.coordinator.accounts.records import COMPLETED, Entry, LedgerHealth
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.metrics import Metrics

ENTRY = Entry(
    request_id="r",
    started_at=datetime.now(UTC),
    key_id=1,
    account="default",
    model=MODEL,
    outcome=COMPLETED,
    attempts=3,
    prompt_tokens=7,
    queue_s=0.1,
)


def lines(metrics: Metrics) -> set[str]:
    return set(metrics.render().decode().splitlines())


def label(provider: Provider) -> str:
    return f'{{id="{provider.id}",provider="{provider.name}"}}'


def test_an_ended_request_is_counted_with_its_moves_and_phases() -> None:
    registry = make_registry()
    ready(registry)
    metrics = Metrics(registry)
    metrics.request_ended(ENTRY)
    shown = lines(metrics)
    assert f'tandem_requests_total{{model="{MODEL}",outcome="completed"}} 1.0' in shown
    assert f'tandem_tokens_total{{kind="prompt",model="{MODEL}"}} 7.0' in shown
    assert "tandem_request_moves_total 2.0" in shown
    assert 'tandem_request_seconds_count{phase="queue"} 1.0' in shown
    assert not any('phase="total"' in line for line in shown), "it was not measured"


def test_a_model_that_a_consumer_made_up_is_no_label() -> None:
    metrics = Metrics(make_registry())
    metrics.request_ended(msgspec.structs.replace(ENTRY, model="made up"))
    shown = lines(metrics)
    assert 'tandem_requests_total{model="unknown",outcome="completed"} 1.0' in shown
    assert not any("made up" in line for line in shown)


def test_providers_are_shown_as_they_are_when_asked() -> None:
    registry = make_registry()
    provider, silent = ready(registry, cluster_role=0), join(registry, [MODEL])
    provider.in_flight = 3
    registry.set_aside(provider)
    shown = lines(Metrics(registry))
    assert f"tandem_provider_requests{label(provider)} 3.0" in shown
    assert f"tandem_provider_ready{label(provider)} 1.0" in shown
    assert f"tandem_provider_set_aside{label(provider)} 1.0" in shown
    assert f"tandem_provider_cluster_rank{label(provider)} 0.0" in shown
    assert f"tandem_provider_ready{label(silent)} 0.0" in shown
    assert not any("rank" in line and silent.id in line for line in shown)


def test_a_providers_own_counters_have_bounded_names_and_number() -> None:
    registry = make_registry()
    provider = join(registry, [MODEL])
    counters = {"steps": 5, "Bad-Name": 1} | {f"c{number}": 1 for number in range(100)}
    registry.heartbeat(provider, beat(counters=counters))
    own = [line for line in lines(Metrics(registry)) if line.startswith("tandem_provider_reported")]
    assert any('counter="steps"' in line and line.endswith(" 5.0") for line in own)
    assert not any("Bad-Name" in line for line in own)
    assert len(own) <= 32


def test_stops_and_connections_are_shown_as_they_are_when_asked() -> None:
    metrics = Metrics(make_registry())
    open_now = {"stranger": 2, "known": 1}
    metrics.watch_connections(lambda: open_now)
    metrics.watch_loop(lambda: 0.25)
    metrics.loop_stopped(0.25)
    metrics.connection_event("stranger_shed")
    open_now["stranger"] = 3
    shown = lines(metrics)
    assert 'tandem_connections{kind="stranger"} 3.0' in shown
    assert 'tandem_connection_events_total{event="stranger_shed"} 1.0' in shown
    assert "tandem_event_loop_longest_stop_seconds 0.25" in shown
    assert "tandem_event_loop_stop_seconds_count 1.0" in shown


def test_how_the_ledger_fares_is_shown() -> None:
    class Failing(MemoryLedger):
        health = LedgerHealth(waiting=7, set_aside=2, problem="the disk is full")

    metrics = Metrics(make_registry())
    metrics.watch_ledger(Failing({}))
    shown = lines(metrics)
    assert "tandem_ledger_rows_waiting 7.0" in shown
    assert "tandem_ledger_failing 1.0" in shown
    assert "tandem_ledger_rows_set_aside_total 2.0" in shown

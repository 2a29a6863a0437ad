"""`/metrics`: counters and latencies for Prometheus. Labels are names that operators chose.

A model that a consumer made up is counted as `unknown`, so the number of series stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tandem.coordinator.accounts.ports import Ledger
from tandem.coordinator.accounts.records import Entry
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.registry import Registry

_SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
_COUNTER_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_COUNTERS = 32


class Metrics:
    def __init__(self, registry: Registry) -> None:
        self._providers = registry
        self._collected = CollectorRegistry()
        self._collected.register(_ProviderMetrics(registry))
        self._requests = Counter(
            "tandem_requests",
            "Requests that have ended.",
            ["model", "outcome"],
            registry=self._collected,
        )
        self._tokens = Counter(
            "tandem_tokens", "Tokens delivered.", ["model", "kind"], registry=self._collected
        )
        self._moves = Counter(
            "tandem_request_moves",
            "How often a request went on at another provider, or was tried there.",
            registry=self._collected,
        )
        self._phases = Histogram(
            "tandem_request_seconds",
            "From admission to a reservation, to the first token, to the end.",
            ["phase"],
            buckets=_SECONDS,
            registry=self._collected,
        )
        self._events = Counter(
            "tandem_provider_events",
            "What has happened to providers.",
            ["event"],
            registry=self._collected,
        )

        self._connection_events = Counter(
            "tandem_connection_events",
            "Connections that were refused or cut off.",
            ["event"],
            registry=self._collected,
        )

        self._stops = Histogram(
            "tandem_event_loop_stop_seconds",
            "Stops of the event loop of more than 0.1 s; nobody is answered meanwhile.",
            buckets=_SECONDS,
            registry=self._collected,
        )

    def watch_ledger(self, ledger: Ledger) -> None:
        """Shows how the usage ledger fares."""
        self._collected.register(_LedgerMetrics(ledger))

    def watch_loop(self, longest_s: Callable[[], float]) -> None:
        """`longest_s` is asked at each scrape for the longest stop of the last minute."""
        gauge = Gauge(
            "tandem_event_loop_longest_stop_seconds",
            "The longest stop of the event loop that ended within the last minute.",
            registry=self._collected,
        )
        gauge.set_function(longest_s)

    def loop_stopped(self, seconds: float) -> None:
        self._stops.observe(seconds)

    def watch_connections(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """`counts` is asked at each scrape for the connections of each kind."""
        gauge = Gauge("tandem_connections", "Open connections.", ["kind"], registry=self._collected)
        for kind in counts():
            gauge.labels(kind).set_function(partial(_count_of, counts, kind))

    def connection_event(self, event: str) -> None:
        """One of the server's own names: `header_too_large`, `stranger_shed`, ..."""
        self._connection_events.labels(event).inc()

    def request_ended(self, entry: Entry) -> None:
        model = entry.model if self._providers.knows(entry.model) else "unknown"
        self._requests.labels(model, entry.outcome).inc()
        self._tokens.labels(model, "prompt").inc(entry.prompt_tokens)
        self._tokens.labels(model, "completion").inc(entry.completion_tokens)
        self._tokens.labels(model, "cached").inc(entry.cached_tokens)
        self._moves.inc(max(0, entry.attempts - 1))
        phases = {
            "queue": entry.queue_s,
            "first_token": entry.first_token_s,
            "total": entry.total_s,
        }
        for phase, seconds in phases.items():
            if seconds is not None:
                self._phases.labels(phase).observe(seconds)

    def provider_event(self, event: str) -> None:
        """One of the coordinator's own names: `joined`, `left`, `hung`, `malformed_role`, ..."""
        self._events.labels(event).inc()

    def render(self) -> bytes:
        return generate_latest(self._collected)


def _count_of(counts: Callable[[], Mapping[str, int]], kind: str) -> float:
    return counts()[kind]


class _ProviderMetrics(Collector):
    """What providers are doing at the moment of asking, and what they have counted themselves."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        gauges = {
            "tandem_provider_requests": "Requests under way at a provider.",
            "tandem_provider_ready": "1 while a provider has a model loaded.",
            "tandem_provider_set_aside": "1 while its circuit breaker is open.",
            "tandem_provider_cluster_rank": "Its rank in a cluster; absent outside of one.",
        }
        families = {
            name: GaugeMetricFamily(name, text, labels=["provider", "id"])
            for name, text in gauges.items()
        }
        counted = CounterMetricFamily(
            "tandem_provider_reported",
            "What providers count.",
            labels=["provider", "id", "counter"],
        )
        for provider in self._registry.providers:
            _describe(provider, families, counted)
        yield from families.values()
        yield counted


class _LedgerMetrics(Collector):
    """How the usage ledger fares."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        health = self._ledger.health
        yield GaugeMetricFamily(
            "tandem_ledger_rows_waiting", "Rows that wait for the disk.", health.waiting
        )
        yield GaugeMetricFamily(
            "tandem_ledger_failing",
            "1 while the usage ledger cannot be written.",
            float(health.problem is not None),
        )
        yield CounterMetricFamily(
            "tandem_ledger_rows_set_aside", "Rows that could not be kept.", health.set_aside
        )


def _describe(
    provider: Provider, gauges: dict[str, GaugeMetricFamily], counted: CounterMetricFamily
) -> None:
    # A name is the operator's to choose, and two machines may have the same.
    label = [provider.name, provider.id]
    gauges["tandem_provider_requests"].add_metric(label, provider.in_flight)
    gauges["tandem_provider_ready"].add_metric(label, float(provider.is_warm))
    gauges["tandem_provider_set_aside"].add_metric(label, float(provider.breaker.is_open))
    if provider.role.rank is not None:
        gauges["tandem_provider_cluster_rank"].add_metric(label, provider.role.rank)
    if provider.heartbeat is None:
        return
    for name, value in list(provider.heartbeat.counters.items())[:_MAX_COUNTERS]:
        if _COUNTER_NAME.fullmatch(name):
            counted.add_metric([*label, name], value)

"""What `tandem up` runs: its options turned into a port, log files and the children's arguments."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tandem.client import http_url, local_host
from tandem.up.child import ChildSpec, rotate
from tandem.up.local_cluster import local_rank_arguments, pair_local_nodes
from tandem.up.processes import STOP_WITH_PARENT, tandem_command
from tandem.up.supervisor import LaunchPlan


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `tandem up`, as given. `port` None means the default, or a free one."""

    #: What every provider is told: the model, and how to serve it.
    provider_arguments: list[str]
    providers: int
    ranks: int
    parallelism: str
    host: str
    port: int | None
    #: As in `tandem coordinator --tls`.
    tls: str
    data_dir: Path
    request_timeout_s: float
    start_timeout_s: float
    verbose: bool

    def url(self, port: int) -> str:
        """Where this machine reaches the service."""
        return http_url(local_host(self.host), port, tls=self.tls == "auto")

    @property
    def pin(self) -> str | None:
        """What the coordinator's key is known by, once it listens."""
        from tandem.security import pin_in

        return pin_in(self.data_dir) if self.tls == "auto" else None

    @property
    def certificate(self) -> str | None:
        """The file of the service's own certificate, once it listens."""
        from tandem.security import certificate_in

        path = certificate_in(self.data_dir) if self.tls == "auto" else None
        return None if path is None else str(path)

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def clusters(self) -> list[list[str]]:
        """The names of the provider processes: one list a cluster, in the order of ranks."""
        names = [f"provider-{number}" for number in range(1, self.providers + 1)]
        if self.ranks == 1:
            return [[name] for name in names]
        return [[f"{name}-rank-{rank}" for rank in range(self.ranks)] for name in names]

    def node_dir(self, name: str) -> Path:
        """Where a provider of this machine keeps its identity and its status."""
        return self.data_dir / "nodes" / name


def launch_plan(options: UpOptions, *, port: int, join_token: str) -> LaunchPlan:
    """The join token goes through the environment: other users can read a command."""

    def spec(name: str, arguments: list[str], token: str) -> ChildSpec:
        command = tandem_command(*arguments, "--json", STOP_WITH_PARENT)
        environment = {"TANDEM_JOIN_TOKEN": token}
        return ChildSpec(name, command, environment, options.log_dir / f"{name}.log")

    def providers(actual_port: int) -> list[ChildSpec]:
        from tandem.security import with_pin

        token = with_pin(join_token, options.pin)
        return [
            spec(name, _provider_arguments(options, name, actual_port) + link, token)
            for names in options.clusters
            for name, link in zip(
                names, local_rank_arguments(len(names), options.parallelism), strict=True
            )
        ]

    return LaunchPlan(
        coordinator=spec("coordinator", _coordinator_arguments(options, port), join_token),
        providers=providers,
        start_timeout_s=options.start_timeout_s,
        verbose=options.verbose,
    )


def _coordinator_arguments(options: UpOptions, port: int) -> list[str]:
    return [
        "coordinator",
        f"--host={options.host}",
        f"--port={port}",
        f"--tls={options.tls}",
        f"--data-dir={options.data_dir}",
        f"--request-timeout={options.request_timeout_s}",
    ]


def _provider_arguments(options: UpOptions, name: str, port: int) -> list[str]:
    return [
        "provider",
        f"--coordinator={options.url(port)}",
        f"--name={name}",
        f"--data-dir={options.node_dir(name)}",
        *options.provider_arguments,
    ]


def pair_nodes(options: UpOptions) -> None:
    """The ranks of each cluster know each other."""
    for names in options.clusters:
        if len(names) > 1:
            pair_local_nodes({name: options.node_dir(name) for name in names})


def threads_per_provider(providers: int) -> int:
    """An equal share of the cores that this process may use, and at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // providers)


def prepare_logs(options: UpOptions) -> None:
    """Sets the last run's logs aside. They name no secrets, but are nobody else's business."""
    options.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(options.log_dir.glob("*.log")):
        rotate(path)

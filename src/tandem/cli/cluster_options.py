"""The options by which a provider becomes a node of a cluster, and what they mean."""

from __future__ import annotations

import ipaddress
import platform
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.errors import ConfigurationError

if TYPE_CHECKING:
    from tandem.cluster import ClusterConfig

#: What `tandem cluster status` reads, in a node's own folder.
STATUS_FILE = "cluster-status.json"


class ParallelismOption(StrEnum):
    AUTO = "auto"
    TP = "tp"
    PP = "pp"
    SINGLE = "single"


class CollectivesOption(StrEnum):
    SEALED = "sealed"
    GLOO = "gloo"
    NCCL = "nccl"


CollectivesChoice = Annotated[
    CollectivesOption,
    typer.Option("--collectives", help="What adds up partial sums; only sealed is encrypted."),
]
AllowPlaintext = Annotated[
    bool,
    typer.Option(
        "--allow-plaintext-collectives", help="Let gloo or NCCL send activations unencrypted."
    ),
]
Ranks = Annotated[int, typer.Option(min=1, max=64, help="Machines that form one cluster.")]
ParallelismChoice = Annotated[
    ParallelismOption,
    typer.Option("--parallelism", help="How a cluster divides the model; auto measures."),
]
ClusterListen = Annotated[
    str | None,
    typer.Option(help="HOST:PORT to wait for the other ranks on.", show_default="not listening"),
]
PeerAddresses = Annotated[
    list[str] | None, typer.Option("--peer", help="HOST:PORT of another rank; may be repeated.")
]
Discover = Annotated[
    list[str] | None,
    typer.Option(
        help="Look for the other ranks by mDNS on the interface with this address; repeatable."
    ),
]
Rank = Annotated[
    int | None, typer.Option(min=0, help="This machine's rank.", show_default="elected")
]
Split = Annotated[
    str | None,
    typer.Option(help="Layers of each rank, e.g. 20,12.", show_default="by speed and memory"),
]


def cluster_config(
    *,
    data_dir: Path,
    name: str,
    ranks: int,
    listen: str | None,
    peers: list[str] | None,
    discover: list[str] | None,
    parallelism: ParallelismOption,
    rank: int | None,
    split: str | None,
    collectives: CollectivesOption = CollectivesOption.SEALED,
    allow_plaintext: bool = False,
) -> ClusterConfig | None:
    """None when the options ask for no cluster. Raises ConfigurationError."""
    if ranks == 1 or parallelism is ParallelismOption.SINGLE:
        if listen or peers or discover or rank or split:
            raise ConfigurationError("a cluster needs --ranks 2 or more, and not single")
        return None
    if not (listen or peers or discover):
        raise ConfigurationError(
            f"a cluster of {ranks} needs --cluster-listen HOST:PORT on one machine and"
            " --peer HOST:PORT on the others, or --discover INTERFACE_ADDRESS on all"
        )
    if collectives is not CollectivesOption.SEALED and not allow_plaintext:
        raise ConfigurationError(
            f"--collectives {collectives.value} sends activations unencrypted: say"
            " --allow-plaintext-collectives if nobody else can reach the link"
        )
    from tandem.cluster import ClusterConfig
    from tandem.protocol.cluster import Collectives, Parallelism
    from tandem.security import PairedNodes, load_or_create_identity

    return ClusterConfig(
        identity=load_or_create_identity(data_dir),
        paired=PairedNodes(data_dir).all(),
        name=name,
        ranks=ranks,
        listen=_listen(listen, discover),
        discover_on=[_interface(text) for text in discover or []],
        peers=[parse_address(peer, "--peer") for peer in peers or []],
        parallelism=Parallelism(parallelism.value),
        collectives=Collectives(collectives.value),
        rank=rank,
        split=_split(split, ranks) if split else None,
    )


def pair_config(
    data_dir: Path, listen: str | None, peers: list[str] | None, ranks: int, rank: int | None
) -> ClusterConfig:
    """For the commands that form a cluster of their own for a while. Raises ConfigurationError."""
    config = cluster_config(
        data_dir=data_dir,
        name=platform.node() or "node",
        ranks=ranks,
        listen=listen,
        peers=peers,
        discover=None,
        parallelism=ParallelismOption.AUTO,
        rank=rank,
        split=None,
    )
    if config is None:
        raise ConfigurationError("a cluster has --ranks 2 or more")
    return config


def _listen(listen: str | None, discover: list[str] | None) -> tuple[str, int] | None:
    """A node that is to be found must listen: on the first interface, unless told otherwise."""
    if listen:
        return parse_address(listen, "--cluster-listen")
    return (_interface(discover[0]), 0) if discover else None


def _interface(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ConfigurationError(
            f"--discover {text!r} is not the IPv4 address of an interface, e.g. 10.0.0.1"
        ) from None


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Accepts `host:port`, `[v6]:port` and, for a host alone, no default: ports are chosen."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535 or not host:
        raise ConfigurationError(f"{option} {text!r} is not HOST:PORT, e.g. 10.0.0.2:7700")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _split(text: str, ranks: int) -> list[int]:
    parts = text.split(",")
    if len(parts) != ranks or not all(part.strip().isdecimal() for part in parts):
        raise ConfigurationError(f"--split {text!r} is not {ranks} numbers, e.g. 20,12")
    return [int(part) for part in parts]

"""The options by which a provider becomes a node of a cluster, and what they mean."""

from __future__ import annotations

import ipaddress
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem import runtime
from tandem.errors import ConfigurationError
from tandem.protocol.cluster import MAX_RANKS, Collectives, Parallelism
from tandem.runtime import Address

if TYPE_CHECKING:
    from tandem.cluster import ClusterConfig

#: What `tandem cluster status` reads, in a node's own folder.
STATUS_FILE = "cluster-status.json"


Ranks = Annotated[int, typer.Option(min=1, max=MAX_RANKS, help="Machines that form one cluster.")]
ParallelismOption = Annotated[
    Parallelism, typer.Option(help="How a cluster divides the model; auto measures.")
]
ClusterListen = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT to wait for the other ranks on, the one port that a cluster needs.",
        show_default="not listening",
    ),
]
PeerAddresses = Annotated[
    list[str] | None, typer.Option("--peer", help="HOST:PORT of another rank; may be repeated.")
]
Rank = Annotated[
    int | None, typer.Option(min=0, help="This machine's rank.", show_default="elected")
]


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider finds the other ranks, and what it does with them."""

    ranks: Ranks = 1
    cluster_listen: ClusterListen = None
    peer: PeerAddresses = None
    discover: Annotated[
        list[str] | None,
        typer.Option(
            help="Look for the other ranks by mDNS on the interface with this address; repeatable."
        ),
    ] = None
    parallelism: ParallelismOption = Parallelism.AUTO
    collectives: Annotated[
        Collectives, typer.Option(help="What adds up partial sums; only sealed is encrypted.")
    ] = Collectives.SEALED
    allow_plaintext_collectives: Annotated[
        bool,
        typer.Option(
            "--allow-plaintext-collectives", help="Let gloo or NCCL send activations unencrypted."
        ),
    ] = False
    rank: Rank = None
    split: Annotated[
        str | None,
        typer.Option(help="Layers of each rank, e.g. 20,12.", show_default="by speed and memory"),
    ] = None


def cluster_config(options: ClusterOptions, *, data_dir: Path, name: str) -> ClusterConfig | None:
    """None when the options ask for no cluster. Raises ConfigurationError."""
    if not _asks_for_cluster(options):
        return None
    from tandem.cluster import ClusterConfig
    from tandem.security import PairedNodes, load_or_create_identity

    pairings = PairedNodes(data_dir)
    return ClusterConfig(
        identity=load_or_create_identity(data_dir),
        paired=pairings.all(),
        pairings=pairings,
        name=name,
        ranks=options.ranks,
        listen=_listen(options.cluster_listen, options.discover),
        discover_on=[_interface(text) for text in options.discover or []],
        peers=[parse_address(peer, "--peer") for peer in options.peer or []],
        parallelism=options.parallelism,
        collectives=options.collectives,
        rank=options.rank,
        split=_split(options.split, options.ranks) if options.split else None,
    )


def _asks_for_cluster(options: ClusterOptions) -> bool:
    """Raises ConfigurationError for options that do not go together."""
    to_find_others = options.cluster_listen or options.peer or options.discover
    if options.ranks == 1 or options.parallelism is Parallelism.SINGLE:
        if to_find_others or options.rank or options.split:
            raise ConfigurationError("a cluster needs --ranks 2 or more, and not single")
        return False
    if not to_find_others:
        raise ConfigurationError(
            f"a cluster of {options.ranks} needs --cluster-listen HOST:PORT on one machine and"
            " --peer HOST:PORT on the others, or --discover INTERFACE_ADDRESS on all"
        )
    sealed = options.collectives is Collectives.SEALED
    if not sealed and not options.allow_plaintext_collectives:
        raise ConfigurationError(
            f"--collectives {options.collectives} sends activations unencrypted: say"
            " --allow-plaintext-collectives if nobody else can reach the link"
        )
    return True


def pair_config(
    data_dir: Path, listen: str | None, peers: list[str] | None, ranks: int, rank: int | None
) -> ClusterConfig:
    """For the commands that form a cluster of their own for a while. Raises ConfigurationError."""
    options = ClusterOptions(ranks=ranks, cluster_listen=listen, peer=peers, rank=rank)
    config = cluster_config(options, data_dir=data_dir, name=platform.node() or "node")
    if config is None:
        raise ConfigurationError("a cluster has --ranks 2 or more")
    return config


def _listen(listen: str | None, discover: list[str] | None) -> Address | None:
    """A node that is to be found must listen: on the first interface, unless told otherwise."""
    if listen:
        return parse_address(listen, "--cluster-listen", to_listen=True)
    return (_interface(discover[0]), 0) if discover else None


def _interface(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ConfigurationError(
            f"--discover {text!r} is not the address of an interface, e.g. 10.0.0.1"
        ) from None


def parse_address(text: str, option: str, *, to_listen: bool = False) -> Address:
    """`host:port` or `[v6]:port`; `:port` to listen on all addresses.

    Raises ConfigurationError.
    """
    try:
        host, port = runtime.parse_address(text)
    except ValueError:
        host, port = "", None
    if port is None or not (host or to_listen):
        raise ConfigurationError(
            f"{option} {text!r} is not HOST:PORT, e.g. 10.0.0.2:7700 or [fe80::2%eth0]:7700"
        )
    return host, port


def _split(text: str, ranks: int) -> list[int]:
    parts = text.split(",")
    if len(parts) != ranks or not all(part.strip().isdecimal() for part in parts):
        raise ConfigurationError(f"--split {text!r} is not {ranks} numbers, e.g. 20,12")
    return [int(part) for part in parts]

"""What an operator decides about one provider process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tandem.runtime import DRAIN_TIMEOUT_S

if TYPE_CHECKING:  # they bring PyTorch or cryptography with them
    from tandem.cluster import ClusterConfig
    from tandem.security import DeviceKey, Identity

#: Said once: the command line shows them, and the struct below falls back on them.
DEFAULT_MAX_SEQUENCES = 32
DEFAULT_SPECULATE = "lookup"


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`coordinator_url` is `ws://` or `wss://`; `join_token` is for the first time; empty, the
    machine waits to be approved. `model` a directory or a hub name.

    `coordinator_pin` is what the coordinator's key is known by; None leaves that to authorities.

    `cluster` None means that this machine serves alone. `status_path` is where a clustered
    provider keeps what `tandem cluster status` shows.
    """

    coordinator_url: str
    join_token: str
    coordinator_pin: str | None = None
    model: str
    name: str
    identity: Identity
    #: A key that the machine's maker has certified, to be trusted as hardware.
    device_key: DeviceKey | None = None
    model_name: str | None = None
    dtype: str = "auto"
    quantize: str | None = None
    kv_cache: str | None = None
    #: "auto", or as in `engine.EngineOptions`.
    device: str = "auto"
    threads: int | None = None
    kv_tokens: int | None = None
    #: `lookup`, `off`, or a draft model: a directory or a hub name.
    speculate: str = DEFAULT_SPECULATE
    max_sequences: int = DEFAULT_MAX_SEQUENCES
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    answer_timeout_s: float = 10.0
    max_outgoing: int = 8192
    cluster: ClusterConfig | None = None
    status_path: Path | None = None
    #: A node that waits this long for the others serves alone meanwhile, if it may.
    alone_after_s: float = 5.0

"""What an operator decides about one coordinator process, and its limits with their defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.runtime import CLOSE_TIMEOUT_S, DRAIN_TIMEOUT_S

#: Said once: the command line shows them, and the struct below falls back on them.
DEFAULT_REQUEST_TIMEOUT_S = 120.0
DEFAULT_MAX_WAITING = 1024
DEFAULT_PATIENCE_S = 20.0


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What one connection may cost."""

    #: Request line, headers and their line ends; trailers and the sizes of chunks by themselves.
    max_header_bytes: int = 64 * 1024
    max_headers: int = 256
    #: From the connection, or a request's first byte, to its whole header.
    header_timeout_s: float = 10.0
    tls_handshake_timeout_s: float = 10.0
    #: For the rest of a body whose request was answered already.
    rest_timeout_s: float = 30.0
    #: How long somebody who is refused may go on sending before the connection ends.
    linger_s: float = 2.0
    #: How long what was written last may wait for its reader.
    flush_timeout_s: float = 10.0
    #: Requests that were sent ahead, and wait for the answers before theirs.
    max_pipelined: int = 32


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`port` 0 takes a free one."""

    host: str
    port: int
    data_dir: Path
    join_token: str
    require_keys: bool = True
    #: Pages that may use the API from a browser; None: any if keys are required, else none.
    cors_origins: tuple[str, ...] | None = None
    #: How long a request may wait, or stand still, before it is given up.
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S
    #: How long it may take in all, however well it gets on; its answer then ends as it is.
    request_limit_s: float | None = None
    #: How long requests may still run after a stop was asked for.
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    #: And connections after that, until they are cut off.
    close_timeout_s: float = CLOSE_TIMEOUT_S
    connections: ConnectionLimits = ConnectionLimits()
    max_body_bytes: int = 8 * 1024 * 1024
    body_timeout_s: float = 30.0
    #: Bytes of requests and answers that this process holds, and those of one consumer.
    max_held_bytes: int = 256 * 1024 * 1024
    max_held_bytes_each: int = 64 * 1024 * 1024
    #: A stream without a byte for so long gets a comment: proxies cut what is silent.
    keep_alive_s: float = 10.0
    #: How long a consumer may take nothing of an answer that is there.
    reader_timeout_s: float = 30.0
    #: Requests under way in this process, at all providers together.
    max_requests: int = 4096
    #: Requests that wait for a reservation, for each model.
    max_waiting: int = DEFAULT_MAX_WAITING
    #: How long a request waits for a provider to come back, when the last one has just gone.
    patience_s: float = DEFAULT_PATIENCE_S
    #: For how long providers must live without a request that two of them may have died of.
    control_s: float = 5.0
    #: One to how many it has to be that they died beside it by chance.
    given_up_odds: float = 10_000.0
    max_providers: int = 8192
    #: Chunks of one request that may be on their way from the provider to the consumer.
    window: int = 32
    hello_timeout_s: float = 10.0
    heartbeat_interval_s: float = 1.0
    #: A provider that was silent for this long is evicted.
    stale_after_s: float = 4.0
    #: A provider whose engine has work, and ends no step for this long, is set aside.
    hangs_after_s: float = 30.0
    #: How often a provider proves again who it is, and how long it may take to do so.
    challenge_interval_s: float = 300.0
    challenge_timeout_s: float = 10.0
    #: Roots of the makers whose word makes a machine's trust `hardware` (PEM).
    attestation_roots: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: How long one message may take to be written to a provider.
    write_timeout_s: float = 10.0
    #: Messages that wait to be written to one provider.
    max_outgoing: int = 8192

"""What every service needs: orderly start and stop, logging, backoff, paths. No Tandem logic."""

from __future__ import annotations

from tandem.runtime.addresses import (
    DEFAULT_PORT,
    WILDCARDS,
    Address,
    address_text,
    free_port,
    host_of,
    is_link_local,
    is_loopback,
    is_own_network,
    listen_on,
    parse_address,
)
from tandem.runtime.backoff import Backoff
from tandem.runtime.cancellation import in_thread, raise_if_cancelled
from tandem.runtime.descriptors import raise_descriptor_limit
from tandem.runtime.faces import on_demand
from tandem.runtime.failures import first_failure
from tandem.runtime.folder_lock import only_one
from tandem.runtime.identifiers import new_id
from tandem.runtime.logging import FewLines, configure_logging, drain_log
from tandem.runtime.paths import (
    create_data_dir,
    data_dir_or_default,
    default_data_dir,
    has_writable_home,
    open_log,
)
from tandem.runtime.service import (
    CLOSE_TIMEOUT_S,
    COORDINATOR_STOP_TIMEOUT_S,
    DRAIN_TIMEOUT_S,
    PROVIDER_STOP_TIMEOUT_S,
    STOP_LIMIT_S,
    UP_STOP_TIMEOUT_S,
    Stop,
    drain,
    run_service,
)
from tandem.runtime.streams import prepare_standard_streams
from tandem.runtime.watchdog import LoopWatch

__all__ = [
    "CLOSE_TIMEOUT_S",
    "COORDINATOR_STOP_TIMEOUT_S",
    "DEFAULT_PORT",
    "DRAIN_TIMEOUT_S",
    "PROVIDER_STOP_TIMEOUT_S",
    "STOP_LIMIT_S",
    "UP_STOP_TIMEOUT_S",
    "WILDCARDS",
    "Address",
    "Backoff",
    "FewLines",
    "LoopWatch",
    "Stop",
    "address_text",
    "configure_logging",
    "create_data_dir",
    "data_dir_or_default",
    "default_data_dir",
    "drain",
    "drain_log",
    "first_failure",
    "free_port",
    "has_writable_home",
    "host_of",
    "in_thread",
    "is_link_local",
    "is_loopback",
    "is_own_network",
    "listen_on",
    "new_id",
    "on_demand",
    "only_one",
    "open_log",
    "parse_address",
    "prepare_standard_streams",
    "raise_descriptor_limit",
    "raise_if_cancelled",
    "run_service",
]

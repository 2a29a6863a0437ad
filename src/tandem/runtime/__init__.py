"""What every service needs: orderly start and stop, logging, backoff, paths. No Tandem logic."""

from __future__ import annotations

from tandem.runtime.backoff import Backoff
from tandem.runtime.cancellation import raise_if_cancelled
from tandem.runtime.failures import first_failure
from tandem.runtime.identifiers import new_id
from tandem.runtime.logging import configure_logging
from tandem.runtime.paths import default_data_dir
from tandem.runtime.ports import free_port
from tandem.runtime.service import Stop, run_service

__all__ = [
    "Backoff",
    "Stop",
    "configure_logging",
    "default_data_dir",
    "first_failure",
    "free_port",
    "new_id",
    "raise_if_cancelled",
    "run_service",
]

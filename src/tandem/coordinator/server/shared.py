"""What all connections of one server have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.responses import Response
from uvicorn.server import ServerState

from tandem.coordinator.config import ConnectionLimits
from tandem.coordinator.server.census import Census
from tandem.coordinator.server.certificate import Certificate
from tandem.coordinator.server.events import Events
from tandem.errors import TandemError


@dataclass(frozen=True)
class Shared:
    config: uvicorn.Config
    state: ServerState
    limits: ConnectionLimits
    census: Census
    events: Events
    #: Words a refusal as the API would; it ends the connection.
    error_response: Callable[[TandemError], Response]
    #: None where connections are not encrypted.
    certificate: Certificate | None

"""What a program on this machine needs to use a service: where it is, its key, and its API.

Commands use it, and `tandem up` leaves its session here. It knows HTTP and nothing of how a service
is built. `Client` and what goes with it bring an HTTP library with them when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.client.address import (
    API_PATH,
    cannot_listen,
    choose_port,
    http_url,
    is_beside_us,
    is_readable_on_the_way,
    local_host,
    split_pin,
    websocket_url,
    with_pin,
)
from tandem.client.endpoint import Endpoint, NotServing, find_endpoint
from tandem.client.session import (
    UpSession,
    exclusive,
    read_service_address,
    read_session,
    remove_session,
    session_path,
    write_service_address,
    write_session,
)
from tandem.client.sse import SseDecoder
from tandem.runtime import on_demand

if TYPE_CHECKING:
    from tandem.client.api import (
        ChatRequest,
        Client,
        Message,
        ModelList,
        ServiceStatus,
    )
    from tandem.client.conversation import ChatResult, receive

__all__ = [
    "API_PATH",
    "ChatRequest",
    "ChatResult",
    "Client",
    "Endpoint",
    "Message",
    "ModelList",
    "NotServing",
    "ServiceStatus",
    "SseDecoder",
    "UpSession",
    "cannot_listen",
    "choose_port",
    "exclusive",
    "find_endpoint",
    "http_url",
    "is_beside_us",
    "is_readable_on_the_way",
    "local_host",
    "read_service_address",
    "read_session",
    "receive",
    "remove_session",
    "session_path",
    "split_pin",
    "websocket_url",
    "with_pin",
    "write_service_address",
    "write_session",
]

if not TYPE_CHECKING:  # to a type checker a name that is not imported above does not exist
    __getattr__ = on_demand(
        __name__,
        {
            "api": (
                "ChatRequest",
                "Client",
                "Message",
                "ModelList",
                "ServiceStatus",
            ),
            "conversation": ("ChatResult", "receive"),
        },
    )

"""The bodies of requests: the first byte chooses the route, the rest is the body."""

from __future__ import annotations

from tandem.coordinator.api.app import DIALECTS
from tandem.coordinator.api.decode import RequestDecoder
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.routing.affinity import Affinity
from tandem.errors import InvalidRequest

_ROUTES = [route for dialect in DIALECTS for route in dialect.routes]
_DECODERS = [RequestDecoder(route.schema) for route in _ROUTES]
_ESTIMATOR = Estimator(Affinity())

PREFIX, CODEC = 1, "json"
TOKENS = (
    *(f'"{name}"' for route in _ROUTES for name in route.schema.__struct_encode_fields__),
    *(
        '"role"',
        '"content"',
        '"user"',
        '"type"',
        '"text"',
        "null",
        "true",
        "1e999",
        "\\ud800",
        "-0",
    ),
)


def run(data: bytes) -> None:
    if not data:
        return
    choice = data[0] % len(_ROUTES)
    route, decoder = _ROUTES[choice], _DECODERS[choice]
    try:
        asked = decoder.decode(data[1:])
        request = route.to_request(asked)
    except InvalidRequest:
        return
    _ESTIMATOR.demand(request, Consumer())
    route.format(asked, "id", 0).opening(request.task.choices)

"""Whose words a path is answered in."""

from __future__ import annotations

import pytest

from tandem.coordinator.api.app import DIALECTS
from tandem.coordinator.api.dialect import bearer
from tandem.coordinator.api.openai import DIALECT


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/v1/chat/completions", True),
        ("/v1/chat/completions/more", True),
        ("/v1/chat/completionsmore", False),
        ("/v1/chat", False),
        ("/v1/completions", True),
        ("/v1/models", False),
    ],
)
def test_a_dialect_speaks_for_its_routes_and_what_is_below_them(path: str, served: bool) -> None:
    assert DIALECT.serves(path) is served


def test_no_route_is_served_twice() -> None:
    paths = [route.path for dialect in DIALECTS for route in dialect.routes]
    assert len(set(paths)) == len(paths)


def test_the_key_is_the_authorization_header() -> None:
    assert bearer({"headers": [(b"x", b"y"), (b"authorization", b"Bearer k")]}) == "Bearer k"
    assert bearer({"headers": []}) is None

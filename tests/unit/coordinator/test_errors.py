"""Endpoints that Starlette does not guard: what they raise is answered all the same."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from tandem.coordinator.api.errors import answer_errors
from tandem.errors import Overloaded


async def answer_to(error: Exception) -> tuple[Message, dict[str, object]]:
    """The head and the body of the answer when an endpoint raises `error`."""
    sent: list[Message] = []

    async def endpoint(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    async def receive() -> Message:
        raise AssertionError("nobody has anything to receive")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    await answer_errors(endpoint, scope, receive, send)
    start, body = sent
    found: dict[str, object] = json.loads(body["body"])["error"]
    return start, found


def test_an_error_is_answered_with_its_own_status() -> None:
    start, error = asyncio.run(answer_to(Overloaded("come again", retry_after_s=3)))
    assert start["status"] == 429
    assert (b"retry-after", b"3") in start["headers"]
    assert error["message"] == "come again"


def test_a_defect_is_answered_without_its_secrets_and_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start, error = asyncio.run(answer_to(ValueError("a secret")))
    assert start["status"] == 500
    assert "a secret" not in str(error)
    assert "a secret" in capsys.readouterr().out

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import msgspec
import pytest

from tandem.client.api import ChatRequest, Client, Message
from tandem.client.conversation import receive
from tandem.client.endpoint import Endpoint, NotServing
from tandem.errors import (
    ConfigurationError,
    InternalError,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    TandemError,
)

_ignore = list[str]().append
Handler = Callable[[httpx2.Request], httpx2.Response]
_REQUEST = ChatRequest("m", [Message("user", "hi")], max_tokens=5, seed=1)


def _client(handler: Handler, api_key: str | None = "sk-1") -> Client:
    transport = httpx2.MockTransport(handler)
    return Client(Endpoint("http://test/v1", api_key), timeout_s=1.0, transport=transport)


def _stream(*events: str) -> Handler:
    body = "".join(f"data: {event}\n\n" for event in events)
    return lambda _: httpx2.Response(200, text=body)


def _chunk(text: str, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return msgspec.json.encode({"id": "x", "choices": [choice]}).decode()


_USAGE = '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'


def test_an_answer_is_streamed_piece_by_piece() -> None:
    shown: list[str] = []
    handler = _stream(_chunk(""), _chunk("Hel"), _chunk("lo\u2028", "stop"), _USAGE, "[DONE]")
    with _client(handler) as client:
        answer = receive(client, _REQUEST, on_text=shown.append)
    assert shown == ["Hel", "lo\u2028"]
    assert answer.text == "Hello\u2028"
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert not answer.interrupted


def test_the_request_carries_the_key_and_only_what_was_set() -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return _stream("[DONE]")(request)

    with _client(handler) as client:
        receive(client, _REQUEST, on_text=_ignore)
    assert seen[0].url == "http://test/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer sk-1"
    assert msgspec.json.decode(seen[0].content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "seed": 1,
    }


def test_temperature_zero_is_sent() -> None:
    greedy = msgspec.structs.replace(_REQUEST, temperature=0.0)
    assert msgspec.json.decode(msgspec.json.encode(greedy))["temperature"] == 0


def test_no_key_sends_no_header() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert "authorization" not in request.headers
        return httpx2.Response(200, json={"data": []})

    with _client(handler, api_key=None) as client:
        assert client.models() == []


def test_ctrl_c_keeps_what_came_and_closes_the_stream() -> None:
    closed = False

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield f"data: {_chunk('Once')}\n\n".encode()
            raise KeyboardInterrupt

        def close(self) -> None:
            nonlocal closed
            closed = True

    with _client(lambda _: httpx2.Response(200, stream=Body())) as client:
        answer = receive(client, _REQUEST, on_text=_ignore)
    assert answer.interrupted
    assert answer.text == "Once"
    assert closed


@pytest.mark.parametrize(
    ("code", "kind"),
    [("model_not_found", ModelNotFound), ("overloaded", Overloaded), (None, InternalError)],
)
def test_an_error_of_the_api_is_shown_by_its_message(
    code: str | None, kind: type[TandemError]
) -> None:
    body = {"error": {"message": "what happened", "code": code, "type": "x", "param": None}}
    with (
        _client(lambda _: httpx2.Response(404, json=body)) as client,
        pytest.raises(kind, match="what happened"),
    ):
        receive(client, _REQUEST, on_text=_ignore)


def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    handler = _stream(_chunk("a"), '{"error": {"message": "it died", "code": "provider_lost"}}')
    with _client(handler) as client, pytest.raises(TandemError, match="it died"):
        receive(client, _REQUEST, on_text=_ignore)


@pytest.mark.parametrize("events", [(_chunk("a"),), ("{",), ('{"choices": 1}',), ("\x00",)])
def test_a_stream_that_breaks_off_or_is_nonsense_is_no_answer(events: tuple[str, ...]) -> None:
    with _client(_stream(*events)) as client, pytest.raises(ProtocolError):
        receive(client, _REQUEST, on_text=_ignore)


def test_a_server_that_is_something_else_is_recognised() -> None:
    with (
        _client(lambda _: httpx2.Response(502, text="<html>")) as client,
        pytest.raises(ProtocolError, match=r"502 .*is that a Tandem service"),
    ):
        client.models()


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("refused"),
        httpx2.ConnectTimeout("slow"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("broke"),
    ],
)
def test_connection_problems_are_not_serving(error: httpx2.HTTPError) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise error

    with _client(handler) as client, pytest.raises(NotServing, match="http://test/v1"):
        client.is_ready()


def test_a_service_that_speaks_tls_is_thought_of() -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")

    with _client(handler) as client, pytest.raises(NotServing, match="write https://"):
        client.is_ready()


def _serving(*models: str) -> Handler:
    return lambda _: httpx2.Response(200, json={"data": [{"id": name} for name in models]})


def test_the_only_model_is_chosen() -> None:
    with _client(_serving("one")) as client:
        assert client.choose_model(None) == "one"
        assert client.choose_model("mine") == "mine"


def test_a_choice_of_several_models_is_the_users() -> None:
    with _client(_serving("a", "b")) as client, pytest.raises(ConfigurationError, match="a, b"):
        client.choose_model(None)


def test_no_model_at_all_is_not_serving() -> None:
    with _client(_serving()) as client, pytest.raises(NotServing):
        client.choose_model(None)

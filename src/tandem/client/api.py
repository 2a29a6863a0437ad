"""A small synchronous client of the API: chat, models, status, machines, draining, peers.

Synchronous because one person waits for one answer, and because Ctrl-C then interrupts a read
where it stands; leaving the `with` closes the connection, which makes the service stop generating.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from tandem import __version__
from tandem.client.address import is_beside_us
from tandem.client.endpoint import Endpoint, NotServing
from tandem.client.sse import SseDecoder
from tandem.errors import ConfigurationError, ProtocolError, TandemError, error_from_code
from tandem.protocol import (
    ClusterPeer,
    ClusterPeers,
    Machine,
    Machines,
    ProviderStatus,
    ProviderStatuses,
)
from tandem.security import PinnedContext

_CONNECT_TIMEOUT_S = 5.0
_WRITE_TIMEOUT_S = 30.0
_DONE = b"[DONE]"
_HTTPS = ", or write https:// if it speaks TLS"

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = True


class ChatRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    model: str
    messages: list[Message]
    stream: msgspec.UnsetType | bool = msgspec.UNSET
    stream_options: msgspec.UnsetType | StreamOptions = msgspec.UNSET
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class ChatDelta(msgspec.Struct, frozen=True):
    content: str | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    delta: ChatDelta
    finish_reason: str | None = None


class ApiError(msgspec.Struct, frozen=True):
    message: str
    code: str | int | None = None
    param: str | None = None

    def to_error(self) -> TandemError:
        return error_from_code(str(self.code), self.message, self.param)


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a stream; `error` is how a stream that has begun reports a failure."""

    choices: list[ChatChoice] = []
    usage: Usage | None = None
    error: ApiError | None = None

    @property
    def text(self) -> str:
        return "".join(choice.delta.content or "" for choice in self.choices)

    @property
    def finish_reason(self) -> str | None:
        return next((c.finish_reason for c in self.choices if c.finish_reason), None)


class _ErrorBody(msgspec.Struct, frozen=True):
    error: ApiError


class Model(msgspec.Struct, frozen=True):
    id: str


class ModelList(msgspec.Struct, frozen=True):
    data: list[Model]


class ServiceStatus(msgspec.Struct, frozen=True):
    base_url: str
    ready: bool
    models: list[Model]
    providers: list[ProviderStatus]
    longest_stop_s: float = 0.0


def _verification(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """How the service's certificate is checked; SSL_CERT_FILE adds authorities everywhere."""
    if endpoint.pin is not None:
        return PinnedContext(endpoint.pin)
    return ssl.create_default_context() if is_beside_us(endpoint.base_url) else True


class Client:
    """Use it as a context manager. Every method raises TandemError, and only that, on failure."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._endpoint = endpoint
        headers = {"User-Agent": f"tandem/{__version__}"}
        if endpoint.api_key:
            headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(
                timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S), write=_WRITE_TIMEOUT_S
            ),
            # A proxy of the environment is for the world outside, not for machines of our own.
            trust_env=not is_beside_us(endpoint.base_url),
            verify=_verification(endpoint),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def is_ready(self) -> bool:
        """Whether the service says that it can answer requests now."""
        with self._errors():
            status = self._http.get(f"{self._endpoint.root_url}/readyz").status_code
        return status == httpx2.codes.OK

    def models(self) -> list[Model]:
        return self._get("/models", ModelList).data

    def status(self) -> ServiceStatus:
        found = self._get("/status", ProviderStatuses)
        return ServiceStatus(
            base_url=self._endpoint.base_url,
            ready=self.is_ready(),
            models=self.models(),
            providers=found.providers,
            longest_stop_s=found.longest_stop_s,
        )

    def machines(self) -> list[Machine]:
        return self._get("/providers", Machines).data

    def cluster_peers(self) -> list[ClusterPeer]:
        """The account's machines that are in no cluster yet."""
        return self._get("/cluster/peers", ClusterPeers).data

    def drain(self, provider: str) -> Machine:
        return self._ask("POST", f"/providers/{quote(provider, safe='')}/drain", Machine)

    def resume(self, provider: str) -> Machine:
        return self._ask("POST", f"/providers/{quote(provider, safe='')}/resume", Machine)

    def _get(self, path: str, kind: type[T]) -> T:
        return self._ask("GET", path, kind)

    def _ask(self, method: str, path: str, kind: type[T]) -> T:
        with self._errors():
            response = self._http.request(method, f"{self._endpoint.base_url}{path}")
            if response.is_error:
                raise _error_of(response)
        return _decode(response.content, kind)

    def choose_model(self, wanted: str | None) -> str:
        """The model that was asked for, or the only one served."""
        if wanted:
            return wanted
        served = [model.id for model in self.models()]
        if not served:
            raise NotServing("no model is served yet: see `tandem status`")
        if len(served) > 1:
            raise ConfigurationError(
                f"several models are served: choose one with --model ({', '.join(served)})"
            )
        return served[0]

    def stream_chat(self, request: ChatRequest) -> Generator[ChatChunk]:
        """The answer as it is generated. Close the iterator to stop the generation."""
        streaming = msgspec.structs.replace(request, stream=True, stream_options=StreamOptions())
        with (
            self._errors(),
            self._http.stream(
                "POST",
                f"{self._endpoint.base_url}/chat/completions",
                content=msgspec.json.encode(streaming),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            ) as response,
        ):
            if response.is_error:
                response.read()
                raise _error_of(response)
            yield from _chunks(response.iter_bytes())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the HTTP library's errors into ours."""
        where = self._endpoint.base_url
        try:
            yield
        except httpx2.InvalidURL as error:
            raise ConfigurationError(f"{where} is no address of a service: {error}") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotServing(f"cannot connect to {where}: {_advice(error)}") from error
        except httpx2.TimeoutException as error:
            raise NotServing(
                f"{where} did not answer in time: see `tandem status`, or raise --timeout"
            ) from error
        except httpx2.HTTPError as error:
            raise NotServing(
                f"the connection to {where} broke ({str(error) or type(error).__name__}):"
                f" see `tandem status`{_HTTPS if where.startswith('http:') else ''}"
            ) from error


def _advice(error: BaseException) -> str:
    """What to do about a connection that did not come about."""
    untrusted = _untrusted(error)
    if untrusted is None:
        return "start a service with `tandem up`, or check --base-url"
    if "pinned" in untrusted:
        return untrusted
    return (
        f"its certificate is not trusted ({untrusted}): use the address that `tandem keys create`"
        " prints at the coordinator, or name the certificate's file in SSL_CERT_FILE"
    )


def _untrusted(error: BaseException | None) -> str | None:
    """Why a certificate was refused, if that is what an error comes from."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(getattr(error, "verify_message", error))
        error = error.__cause__ or error.__context__
    return None


def _chunks(body: Iterator[bytes]) -> Iterator[ChatChunk]:
    decoder = SseDecoder()
    for received in body:
        for data in decoder.feed(received):
            if data == _DONE:
                return
            chunk = _decode(data, ChatChunk)
            if chunk.error is not None:
                raise chunk.error.to_error()
            yield chunk
    raise ProtocolError("the answer broke off: the service closed the connection; try again")


def _error_of(response: httpx2.Response) -> TandemError:
    try:
        return msgspec.json.decode(response.content, type=_ErrorBody).error.to_error()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ProtocolError(
            f"{response.url} answered {response.status_code} {response.reason_phrase}:"
            " is that a Tandem service?"
        )


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the service sent something unexpected: {error}") from error

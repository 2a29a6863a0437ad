"""What web pages may do here: browsers say whose page it is (`Origin`), and ask first (CORS).

With keys any page may use the API that runs models, since it needs a key to do so; the operator's
routes are for no page but our own console. Without keys the browser of whoever sits at the machine
would be key enough for every page in it, so only pages that were named may.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tandem.coordinator.api.errors import ErrorResponses
from tandem.coordinator.api.http import header
from tandem.errors import ConfigurationError, OriginRefused
from tandem.runtime import is_own_network

ANY_ORIGIN = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s@]+")
_EXPOSED = "x-request-id, retry-after, x-tandem-trace"
_REMEMBERED_S = "7200"


class OriginRules:
    """Whom pages are allowed to ask, by what the operator said. No I/O.

    `is_open` says which paths are for pages of elsewhere at all; `host` is where we listen.
    """

    def __init__(
        self,
        origins: tuple[str, ...] | None,
        *,
        keys_required: bool,
        host: str,
        is_open: Callable[[str], bool],
    ) -> None:
        default = (ANY_ORIGIN,) if keys_required else ()
        self._origins = frozenset(default if origins is None else origins)
        self._hosts = {host.lower(), *(_host_of(origin) for origin in self._origins)}
        self._keys_required = keys_required
        self._is_open = is_open

    def allowed(self, origin: str, path: str) -> bool:
        """Whether a page of elsewhere may read what this path answers."""
        return self._is_open(path) and bool({origin.lower(), ANY_ORIGIN} & self._origins)

    def check(self, origin: str | None, host: str | None, path: str) -> None:
        """Raises OriginRefused for what a page must not even send."""
        if self._keys_required:
            return
        if host is not None and not self._is_own(host):
            raise OriginRefused(
                f"{host!r} is no name of this machine, and without keys a page of that name could"
                f" ask as you: use the address, or allow it with --cors-origin http://{host}"
            )
        foreign = origin is not None and origin.partition("://")[2].lower() != (host or "").lower()
        if origin is not None and foreign and not self.allowed(origin, path):
            raise OriginRefused(
                f"a page of {origin!r} asks, and this service needs no key: --cors-origin {origin}"
                " allows it the API that runs models"
            )

    def _is_own(self, host: str) -> bool:
        """By an address nobody was led here by a name that changed its meaning."""
        name = _host_of(f"//{host}")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts or ANY_ORIGIN in self._origins or is_own_network(name)
        return True


class BrowserRules:
    """Refuses what no page may send, answers browsers that ask first, and marks the answers."""

    def __init__(self, app: ASGIApp, rules: OriginRules, errors: ErrorResponses) -> None:
        self._app = app
        self._rules = rules
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin")
        try:
            self._check(scope, origin)
        except OriginRefused as refusal:
            await self._errors.at(scope["path"], refusal)(scope, receive, send)
            return
        if origin is None or not self._rules.allowed(origin, scope["path"]):
            await self._app(scope, receive, send)
        elif _asks_first(scope):
            await send(_preflight_answer(scope, origin))
            await send({"type": "http.response.body"})
        else:
            await self._app(scope, receive, _marking(send, origin))

    def _check(self, scope: Scope, origin: str | None) -> None:
        if scope["type"] == "websocket":
            if origin is not None:
                raise OriginRefused("a provider is no web page, and sends no Origin")
            return
        self._rules.check(origin, header(scope, b"host"), scope["path"])


def parse_origin(text: str) -> str:
    """An origin as browsers write it, or `*`. Raises ConfigurationError."""
    origin = text.strip().rstrip("/").lower()
    if origin != ANY_ORIGIN and _ORIGIN.fullmatch(origin) is None:
        raise ConfigurationError(
            f"--cors-origin {text}: an origin is like https://app.example:8443, or * for any"
        )
    return origin


def _asks_first(scope: Scope) -> bool:
    asked = header(scope, b"access-control-request-method")
    return scope["method"] == "OPTIONS" and asked is not None


def _preflight_answer(scope: Scope, origin: str) -> Message:
    headers = MutableHeaders()
    headers["access-control-allow-origin"] = origin
    headers["access-control-allow-methods"] = "GET, POST"
    headers["access-control-max-age"] = _REMEMBERED_S
    headers["vary"] = "origin, access-control-request-headers"
    headers["content-length"] = "0"
    asked = header(scope, b"access-control-request-headers")
    if asked is not None:
        headers["access-control-allow-headers"] = asked
    return {"type": "http.response.start", "status": 200, "headers": headers.raw}


def _marking(send: Send, origin: str) -> Send:
    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = _EXPOSED
            headers.add_vary_header("origin")
            message = {**message, "headers": headers.raw}
        await send(message)

    return send_marked


def _host_of(origin: str) -> str:
    """Of `scheme://host:port` or `//host:port`, without brackets."""
    authority = origin.partition("//")[2].lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].rstrip(".")

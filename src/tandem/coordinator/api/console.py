"""`/console/`: the web console, a few static files that use the API like anybody else."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tandem.errors import NotFound

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
#: Nothing from elsewhere, nothing inline: what a model says can never become a script.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_PAGE = "index.html"


class Console:
    def __init__(self) -> None:
        folder = files("tandem") / "assets" / "console"
        self._files = {entry.name: entry.read_bytes() for entry in folder.iterdir()}

    async def enter(self, _: Request) -> Response:
        return RedirectResponse("/console/")

    async def file(self, request: Request) -> Response:
        name = request.path_params.get("file") or _PAGE
        content = self._files.get(name)
        if content is None:
            raise NotFound(f"GET /console/{name}: there is no such route")
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(content, headers=_HEADERS, media_type=f"{kind}; charset=utf-8")

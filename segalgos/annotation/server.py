"""The server of `segalgos annotate`: routes, and how it starts and ends."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files as package_files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from segalgos.annotation.guard import Guard
from segalgos.annotation.project import StaleError
from segalgos.annotation.session import Session

__all__ = ["make_app", "new_token", "open_socket", "serve"]

HOST = "127.0.0.1"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def new_token() -> str:
    """Draw the secret of an address.

    Returns
    -------
    str
        256 random bits.
    """
    return secrets.token_urlsafe(32)


def open_socket(port: int = 0) -> socket.socket:
    """Take a port on this computer alone.

    Parameters
    ----------
    port : int, default=0
        0 for any that is free.

    Returns
    -------
    socket.socket

    Raises
    ------
    OSError
        If the port is taken.
    """
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two servers share a port
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
    except OSError as error:
        taken.close()
        raise OSError(
            f"annotate: port {port} cannot be had ({error.strerror}): choose another --port, or "
            "leave it out."
        ) from error
    return taken


def make_app(session: Session, token: str, port: int) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    session : Session
    token : str
    port : int
        Which it will be reached by.

    Returns
    -------
    ASGI application
    """
    folder = package_files("segalgos.annotation") / "page"
    page = {
        entry.name: (entry.read_bytes(), _TYPES[f".{entry.name.rpartition('.')[2]}"])
        for entry in folder.iterdir()
        if f".{entry.name.rpartition('.')[2]}" in _TYPES
    }

    def asset(name: str) -> Response:
        if name not in page:
            raise HTTPException(404)
        content, kind = page[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    def get(answer: Callable[..., Any], **numbers: int) -> Callable:
        """A handler that passes numbers of the path and the query on, on a thread."""

        async def handler(request: Request) -> Response:
            given = dict(request.path_params)
            for name, default in numbers.items():
                text = request.query_params.get(name, str(default))
                if not text.removeprefix("-").isdecimal():
                    raise HTTPException(400)
                given[name] = int(text)
            return _respond(await run_in_threadpool(answer, *given.values()))

        return handler

    def post(answer: Callable[..., Any]) -> Callable:
        """A handler that passes numbers of the path and a JSON body on, on a thread."""

        async def handler(request: Request) -> Response:
            if not request.headers.get("content-type", "").startswith("application/json"):
                raise HTTPException(415)
            try:
                content = json.loads(await request.body())
            except (ValueError, RecursionError) as error:
                raise HTTPException(400) from error
            given = request.path_params.values()
            return _respond(await run_in_threadpool(answer, *given, content))

        return handler

    async def index(request: Request) -> Response:
        return asset("index.html")

    async def file(request: Request) -> Response:
        return asset(request.path_params["name"])

    one = "/api/images/{image:int}"
    routes = [
        Route("/", index),
        Route("/page/{name}", file),
        Route("/api/overview", get(session.overview)),
        Route("/api/status", get(session.status)),
        Route("/api/classes", post(session.set_classes), methods=["POST"]),
        Route("/api/export", post(session.export), methods=["POST"]),
        Route("/api/next", get(lambda after: {"image": session.next_image(after)}, after=0)),
        Route(one, get(session.image)),
        Route(f"{one}/change", post(session.change), methods=["POST"]),
        Route(f"{one}/forest", get(session.forest_status, version=0)),
        Route(f"{one}/uncertainty", get(session.uncertainty)),
        Route(f"{one}/thumbnail", get(session.pictures.thumbnail)),
        Route(
            f"{one}/tiles/{{level:int}}/{{row:int}}/{{col:int}}",
            get(lambda image, *place: session.pictures.get(image).tile(*place)),
        ),
    ]
    handlers = {
        StaleError: _refuse(409, "stale"),
        KeyError: _refuse(404, "missing"),
        IndexError: _refuse(404, "missing"),
        ValueError: _refuse(400, "error"),
        TypeError: _refuse(400, "error"),
        OSError: _refuse(400, "error"),
        HTTPException: _refuse(None, "error"),
        ClientDisconnect: _refuse(413, "error"),
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, port)


def _respond(content: Any) -> Response:
    if isinstance(content, bytes):
        kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
        return Response(content, media_type=kind, headers={"cache-control": "private, no-cache"})
    return JSONResponse(content, headers={"cache-control": "no-store"})


def _refuse(status: int | None, kind: str) -> Callable:
    """A handler of errors: their text as JSON, which the page shows."""

    async def handler(request: Request, error: Exception) -> Response:
        number = status or error.status_code
        text = str(error)
        if kind == "missing" or isinstance(error, HTTPException):
            text = f"There is no such thing here ({number})."
        return JSONResponse({"kind": kind, "error": text}, number)

    return handler


def serve(
    session: Session, taken: socket.socket, token: str, on_start: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    session : Session
    taken : socket.socket
        From `open_socket`.
    token : str
    on_start : callable
        Told the address, once it can be opened.
    """
    port = taken.getsockname()[1]
    config = uvicorn.Config(
        make_app(session, token, port),
        log_level="warning",
        access_log=False,  # addresses hold the token
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, lambda: on_start(f"http://{HOST}:{port}/?token={token}"))
    # Requests that are cut off by Ctrl-C are no errors.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    session.warm_up()
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has ended all
            server.run(sockets=[taken])
    finally:
        taken.close()
        session.close()


class _Server(uvicorn.Server):
    """Tell when the address can be opened."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell.

        Parameters
        ----------
        sockets : list of socket.socket, optional
        """
        await super().startup(sockets=sockets)
        self._on_start()

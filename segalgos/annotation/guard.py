"""Who may talk to the server: the page that was opened by its secret address, and nobody else."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "MAX_BODY", "Guard"]

#: Bytes of a request's body at most.
MAX_BODY = 4_000_000

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: What every answer says to the browser.
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Refuse what does not come from the page.

    Parameters
    ----------
    app : ASGI application
    token : str
        The secret. It comes once in the address, ``/?token=...``, and then in a cookie that
        scripts cannot read and other sites cannot send.
    port : int
        Of the server.

    Notes
    -----
    - ``Host`` must be this computer's own name: a foreign name that was made to point here (DNS
      rebinding) is refused.
    - ``Origin`` must be the page's own where there is one, and must be there with POST.
    - Bodies beyond `MAX_BODY` are refused while they are read.
    """

    def __init__(self, app: ASGIApp, token: str, port: int):
        self._app = app
        self._token = token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.cookie = f"segalgos-{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no WebSockets here
        refusal = self._refusal(scope)
        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(text, status, headers=HEADERS)(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        is_new = self._is_token(connection.query_params.get("token"))
        await self._app(scope, _bounded(receive), self._with_headers(send, is_new))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self._hosts:
            return 403, "Refused: this address is not this server's own."
        origins = {f"http://{host}" for host in self._hosts}
        origin = headers.get("origin")
        if (origin is None and scope["method"] not in ("GET", "HEAD")) or (
            origin is not None and origin.lower() not in origins
        ):
            return 403, "Refused: the request comes from another page."
        # A link on another page may open this one, but read nothing of it.
        is_link = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return 403, "Refused: the request comes from another page."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return 413, f"Refused: more than {MAX_BODY} bytes."
        query = HTTPConnection(scope).query_params.get("token")
        if not (self._is_token(self._cookie_of(headers)) or self._is_token(query)):
            return 403, (
                "Refused: open the page by the address that `segalgos annotate` printed, with its "
                "token."
            )
        return None

    def _cookie_of(self, headers: Headers) -> str | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return morsel.value if morsel else None

    def _is_token(self, text: str | None) -> bool:
        return text is not None and hmac.compare_digest(text.encode(), self._token.encode())

    def _with_headers(self, send: Send, is_new: bool) -> Send:
        extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        if is_new:
            cookie = f"{self.cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            extra.append((b"set-cookie", cookie.encode()))

        async def send_(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        return send_


def _bounded(receive: Receive) -> Receive:
    """Stop a body that goes on and on, whatever its header said."""
    n_bytes = 0

    async def receive_() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > MAX_BODY:
            return {"type": "http.disconnect"}
        return message

    return receive_

"""What stands before every request: who may ask, from which page, how much, how often, and how slowly."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landseer.server.settings import ServerSettings

COOKIE = "landseer"
"""Lets a page that once knew the token load pictures; it never lets anyone change anything."""
OPEN = ("/", "/run", "/api/health", "/api/ready", "/api/session", "/favicon.ico")
"""What needs no token; so does what lies below /static/."""
_ADDRESSES = 10_000
"""Addresses whose rate is remembered."""
_BURST_S = 5.0
"""So many seconds' worth may come at once."""
_ROOM = 256_000_000
"""Bytes of requests that may be in memory at once, and at least ten of the largest."""

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def refusal(status: int, words: str, **headers: str) -> JSONResponse:
    """A 4xx as every one of them looks."""
    return JSONResponse({"error": words}, status_code=status, headers=headers)


class Gate:
    """Lets a request through, or says in one line why not."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self._rates = Rates(settings.rate_here)
        self._room = _Room(max(_ROOM, 10 * settings.upload_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the head, watch over the body, and add the headers to what is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, scope, self._settings, self._room)
        app = self._judged(scope) or self._app
        try:
            await app(scope, body.receive, _answering(send, body))
        finally:
            body.forget()

    def _judged(self, scope: Scope) -> Response | None:
        headers, settings = Headers(scope=scope), self._settings
        if not known_host(headers.get("host", ""), settings):
            return refusal(400, "this machine is not called so; --name NAME lets it be")
        wait = self._rates.wait(_address_of(scope))
        if wait > 0:
            return refusal(429, "too many requests; ask more slowly", **{"retry-after": str(int(wait) + 1)})
        reads = scope["method"] in ("GET", "HEAD", "OPTIONS")
        if not reads and not same_site(headers):
            return refusal(403, "requests from other pages are refused")
        if (
            not settings.local
            and not _is_open(scope["path"])
            and not self._known(headers, cookie=reads or _asks(scope))
        ):
            return refusal(401, "this server answers who knows its token", **{"www-authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > settings.upload_bytes:
            return refusal(413, _most(settings))
        return None

    def _known(self, headers: Headers, *, cookie: bool) -> bool:
        if holds_token(headers, self._settings):
            return True
        return cookie and _has_cookie(headers, self._settings)


class _Room:
    """Bytes that all requests under way may bring together."""

    def __init__(self, most: int) -> None:
        self.left = most


class _Body:
    """What a request brings: so many bytes at most, and in so much time."""

    def __init__(self, receive: Receive, scope: Scope, settings: ServerSettings, room: _Room) -> None:
        headers = Headers(scope=scope)
        self._receive, self._settings, self._room = receive, settings, room
        self._end = time.monotonic() + settings.body_s
        self._taken = 0
        self.whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        """Whether nothing more is to come."""

    async def receive(self) -> Message:
        """The next part.  Raises ``HTTPException`` where it is too much, or too late."""
        if self.whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._end - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request took too long to arrive") from None
        size = len(message.get("body", b""))
        self._taken += size
        self._room.left -= size
        if self._room.left < 0:
            raise HTTPException(
                429, "too much is being sent at once; try again in a moment", {"retry-after": "2"}
            )
        if self._taken > self._settings.upload_bytes:
            raise HTTPException(413, _most(self._settings))
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def forget(self) -> None:
        """The request is answered, and what it brought is gone."""
        self._room.left += self._taken
        self._taken = 0

    async def drained(self) -> bool:
        """Take what is still to come, and drop it; whether it came to an end.

        Whoever is still sending does not listen yet, and where the connection broke would never hear the answer.
        """
        try:
            while not self.whole:
                await self.receive()
        except HTTPException:
            return False
        return True


class Rates:
    """How often each address asks: a bucket of tokens each, which fills again with time."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may ask; 0: it may now, and has."""
        if self._rate is None:
            return 0.0
        most = max(1.0, self._rate * _BURST_S)
        now = time.monotonic()
        left, when = self._left.pop(address, (most, now))
        left = min(most, left + (now - when) * self._rate)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


def holds_token(headers: Mapping[str, str], settings: ServerSettings) -> bool:
    """Whether the request says the token in its ``Authorization``, which no other page can make a browser do."""
    kind, _, said = headers.get("authorization", "").partition(" ")
    return settings.token is not None and kind.lower() == "bearer" and _same(said.strip(), settings.token)


def cookie_of(settings: ServerSettings) -> str:
    """What the cookie says: it follows from the token and does not tell it."""
    assert settings.token is not None, "there is a cookie only where there is a token"
    return hmac.new(settings.token.encode(), b"landseer read", hashlib.sha256).hexdigest()


def known_host(host: str, settings: ServerSettings) -> bool:
    """Whether a browser may call this machine so.

    A page can make a name of its own point here (DNS rebinding), and its scripts would then be of this origin; a plain
    address cannot be made to point elsewhere.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", settings.host, *settings.names):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_site(headers: Headers) -> bool:
    """Whether a request that does something comes from this server's own page, or from no page at all."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _has_cookie(headers: Headers, settings: ServerSettings) -> bool:
    if settings.token is None:
        return False
    crumbs = (crumb.strip().partition("=") for crumb in headers.get("cookie", "").split(";"))
    return any(name == COOKIE and _same(value, cookie_of(settings)) for name, _, value in crumbs)


def _same(said: str, true: str) -> bool:
    return hmac.compare_digest(said.encode("utf-8", "surrogatepass"), true.encode())


def _asks(scope: Scope) -> bool:
    """Whether a POST only asks."""
    return scope["path"] in ("/api/search", "/api/match")


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/static/")


def _address_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _most(settings: ServerSettings) -> str:
    return f"at most {settings.upload_mb:g} MB may be sent at once"


def _answering(send: Send, body: _Body) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there]
            if b"cache-control" not in there:
                added.append((b"cache-control", b"no-store"))
            if message["status"] == 413 or not await body.drained():
                added.append((b"connection", b"close"))
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending

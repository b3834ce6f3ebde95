"""Who may see the dashboard: this machine, or whoever has its token; and who may change something."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from medfathom.text import command

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOCAL_NAMES = {"127.0.0.1", "localhost", "[::1]"}
READING = {"GET", "HEAD", "OPTIONS"}
COOKIE = "medfathom_dashboard"


def new_token() -> str:
    """A token that nobody guesses: 192 bits."""
    return secrets.token_urlsafe(24)


def guarded(app: WSGIApplication, *, writable: bool, token: str | None = None) -> WSGIApplication:
    """Let only those requests pass that may; others get 403.

    A page of another site could otherwise reach the dashboard through the user's browser.

    Args:
        app: the dashboard.
        writable: whether requests that change something pass.
        token: without it only requests to this machine by a name of its own pass. With it only those that
            know it: `?token=` is exchanged for a cookie, so that it does not stay in the page's address.
    """

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        origin = environ.get("HTTP_ORIGIN")
        if token is None and _name(f"//{host}") not in LOCAL_NAMES:
            return _refuse(start_response, f"Host {host!r} is not this machine")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(start_response, f"Origin {origin!r} is another site")
        if token is not None:
            if _same(_asked_with(environ), token):
                return _welcome(environ, start_response, token)
            if not _same(_cookie(environ), token):
                return _refuse(
                    start_response, "open this dashboard with the printed address, which ends in ?token=…"
                )
        if not writable and environ["REQUEST_METHOD"] not in READING:
            return _refuse(
                start_response,
                f"read-only; `{command('dashboard', '--writable')}` allows changes on this page",
            )
        return app(environ, start_response)

    return checked


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(
        given.encode(), token.encode()
    )  # in the same time, however much of it is right


def _asked_with(environ: WSGIEnvironment) -> str:
    return parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])[0]


def _cookie(environ: WSGIEnvironment) -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return str(found.value) if found is not None else ""


def _welcome(environ: WSGIEnvironment, start_response: StartResponse, token: str) -> list[bytes]:
    """The cookie, and the same place again without the token."""
    # Only one slash at the beginning: else the place could be another site's.
    place = "/" + environ.get("PATH_INFO", "/").lstrip("/").translate({10: None, 13: None})
    start_response(
        "303 See Other",
        [
            ("Location", place),
            ("Set-Cookie", f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"),
            ("Referrer-Policy", "no-referrer"),
            ("Content-Length", "0"),
        ],
    )
    return []


def _name(url: str) -> str:
    """Host without port, brackets of an IPv6 address kept."""
    return urlsplit(url).netloc.rpartition("@")[2].removesuffix(f":{_port(url)}")


def _port(url: str) -> str:
    tail = urlsplit(url).netloc.rpartition(":")[2]
    return tail if tail.isdigit() else ""


def _refuse(start_response: StartResponse, reason: str) -> list[bytes]:
    # As the page reads its API's refusals: it shows `reason`.
    body = json.dumps({"reason": reason}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("403 Forbidden", headers)
    return [body]

"""optuna-dashboard on the storage, for this machine only.

The page itself has no login, takes any Host and Origin, and can delete studies. So it is bound to 127.0.0.1,
only requests that name this address and come from its own pages pass (a page of another site could otherwise
reach it through the user's browser), and nothing can be changed unless asked for.
"""

from __future__ import annotations

import json
import socketserver
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from medfathom.dashboard.notes import artifact_store
from medfathom.errors import StorageError
from medfathom.study.connection import connect
from medfathom.text import command

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
LOCAL_NAMES = {"127.0.0.1", "localhost", "[::1]"}
READING = {"GET", "HEAD", "OPTIONS"}


def local_only(app: WSGIApplication, *, writable: bool) -> WSGIApplication:
    """Let only local requests pass, and (unless `writable`) only reading ones; others get 403."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        origin = environ.get("HTTP_ORIGIN")
        if _name(f"//{host}") not in LOCAL_NAMES:
            return _refuse(start_response, f"Host {host!r} is not this machine")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(start_response, f"Origin {origin!r} is another site")
        if not writable and environ["REQUEST_METHOD"] not in READING:
            return _refuse(
                start_response,
                f"read-only; `{command('dashboard', '--writable')}` lets the page change things",
            )
        return app(environ, start_response)

    return guarded


STYLE = (
    "<style>#dashboard * { overflow-wrap: anywhere; } "
    "#dashboard p { white-space: normal !important; }</style>"
)
"""An attribute of a thousand characters is folded, else the page is as wide as it is long."""

READ_ONLY = (
    '<div style="position: fixed; bottom: 0; right: 0; padding: 4px 12px; font: 13px sans-serif; '
    'z-index: 2000; background: #ffe9b3; color: #402d00">Read-only: edits and deletions are refused. '
    "<code>{command}</code> lets this page change things.</div>"
)
"""Buttons that would change something are the page's own; this says why they fail."""


def with_page(app: WSGIApplication, *, writable: bool) -> WSGIApplication:
    """Add `STYLE`, and `READ_ONLY` unless `writable`, to the page itself; everything else passes as it is."""
    added = STYLE + ("" if writable else READ_ONLY.format(command=escape(command("dashboard", "--writable"))))

    def changed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not environ.get("PATH_INFO", "").startswith("/dashboard"):
            return app(environ, start_response)
        # The whole page each time: of a page that was not modified only its headers would come.
        environ.pop("HTTP_IF_MODIFIED_SINCE", None)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            begun.append((status, headers))

        parts = app(environ, keep)
        try:
            body = b"".join(parts).replace(b"</body>", added.encode() + b"</body>")
        finally:
            getattr(parts, "close", lambda: None)()
        status, headers = begun[-1]
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    return changed


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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page polls every few seconds."""


def make_dashboard(url: str, port: int, *, writable: bool) -> WSGIServer:
    """The server, bound and ready. `port` 0 takes a free one (`server_port` tells which).

    Raises:
        StorageError: no such storage, or the port is taken.
    """
    storage = connect(url, create=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna_dashboard  # noqa: PLC0415

        app = optuna_dashboard.wsgi(storage, artifact_store=artifact_store())
    try:
        guarded = local_only(with_page(app, writable=writable), writable=writable)
        return make_server(HOST, port, guarded, _Server, _QuietHandler)
    except OSError as error:
        raise StorageError(f"--port {port}: cannot be bound ({error.strerror}); try --port 0") from None


def serve(url: str, port: int, *, writable: bool, say: Callable[[str], None]) -> None:
    """Serve until interrupted."""
    with make_dashboard(url, port, writable=writable) as server:
        say(f"http://{HOST}:{server.server_port}/dashboard/  (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")

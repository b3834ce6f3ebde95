"""optuna-dashboard on the storage, for this machine only.

The page itself has no login, takes any Host and Origin, and can delete studies. So it is bound to 127.0.0.1,
only requests that name this address and come from its own pages pass (a page of another site could otherwise
reach it through the user's browser), and nothing can be changed unless asked for.
"""

from __future__ import annotations

import socketserver
import warnings
from collections.abc import Callable, Iterable
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


def _name(url: str) -> str:
    """Host without port, brackets of an IPv6 address kept."""
    return urlsplit(url).netloc.rpartition("@")[2].removesuffix(f":{_port(url)}")


def _port(url: str) -> str:
    tail = urlsplit(url).netloc.rpartition(":")[2]
    return tail if tail.isdigit() else ""


def _refuse(start_response: StartResponse, reason: str) -> list[bytes]:
    body = f"403: {reason}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
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
        return make_server(HOST, port, local_only(app, writable=writable), _Server, _QuietHandler)
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

"""optuna-dashboard on the storage, for this machine, or for whoever has its token.

The page itself has no login, takes any Host and Origin, and can delete studies. So it is bound to 127.0.0.1
unless asked otherwise, `visitors.guarded` decides which requests pass, and nothing can be changed unless
asked for.
"""

from __future__ import annotations

import socketserver
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from medfathom.dashboard.notes import artifact_store
from medfathom.dashboard.visitors import LOCAL_NAMES, guarded, new_token
from medfathom.errors import StorageError
from medfathom.study.connection import connect
from medfathom.text import command

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"


STYLE = (
    "<style>#dashboard * { overflow-wrap: anywhere; } "
    "#dashboard p { white-space: normal !important; }</style>"
)
"""An attribute of a thousand characters is folded, else the page is as wide as it is long."""

READ_ONLY = (
    '<div style="position: fixed; bottom: 0; right: 0; padding: 4px 12px; font: 13px sans-serif; '
    'z-index: 2000; background: #ffe9b3; color: #402d00">Read-only: edits and deletions are refused. '
    "<code>{command}</code> allows changes on this page.</div>"
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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page polls every few seconds."""


def make_dashboard(
    url: str, port: int, *, writable: bool, host: str = HOST, token: str | None = None
) -> WSGIServer:
    """The server, bound and ready. `port` 0 takes a free one (`server_port` tells which).

    Raises:
        StorageError: no such storage, or the address or port cannot be had.
    """
    storage = connect(url, create=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna_dashboard  # noqa: PLC0415

        app = optuna_dashboard.wsgi(storage, artifact_store=artifact_store())
    try:
        for_visitors = guarded(with_page(app, writable=writable), writable=writable, token=token)
        return make_server(host, port, for_visitors, _Server, _QuietHandler)
    except OSError as error:
        where = f"--port {port}" if host == HOST else f"--host {host} --port {port}"
        raise StorageError(
            f"{where}: cannot be used ({error.strerror}); try --port 0, which takes a free port"
        ) from None


def serve(url: str, port: int, *, writable: bool, say: Callable[[str], None], host: str = HOST) -> None:
    """Serve until interrupted. To other machines (`host` is not this one's own) only with a token."""
    token = None if host in LOCAL_NAMES else new_token()
    with make_dashboard(url, port, writable=writable, host=host, token=token) as server:
        place = f"http://{host}:{server.server_port}/dashboard/"
        say(f"{place}  (Ctrl-C ends)" if token is None else f"{place}?token={token}  (Ctrl-C ends)")
        if token is not None:
            say(
                "Anyone with this address can read the storage. The connection is not encrypted; an SSH "
                "tunnel is."
            )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")

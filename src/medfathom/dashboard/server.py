"""optuna-dashboard on the storage, for this machine, or for whoever has its token.

The page itself has no login, takes any Host and Origin, and can delete studies. So it is bound to 127.0.0.1
unless asked otherwise, `visitors.guarded` decides which requests pass, and nothing can be changed unless
asked for.
"""

from __future__ import annotations

import errno
import re
import socket
import socketserver
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from medfathom.dashboard.notes import artifact_store
from medfathom.dashboard.sample import SampledStorage
from medfathom.dashboard.visitors import LOCAL_NAMES, guarded, new_token
from medfathom.errors import StorageError
from medfathom.study.connection import connect, connect_as
from medfathom.text import command

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
ALL = {"", "0.0.0.0"}  # noqa: S104
"""All addresses of this machine: none that another one could open."""
NO_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""What is wrong where an address is not this machine's."""


BAR = (
    '<div style="position: fixed; bottom: 0; right: 0; padding: 4px 12px; font: 13px sans-serif; '
    "max-width: calc(100% - 57px); box-sizing: border-box; "
    'z-index: 2000; background: #ffe9b3; color: #402d00">{lines}</div>'
)
"""What is said on every page: the page's own texts cannot be changed. The menu at the left, 57 px wide, stays
free."""

STYLE = (
    "<style>#dashboard * { overflow-wrap: anywhere; } "
    "#dashboard p { white-space: normal !important; }</style>"
)
"""An attribute of a thousand characters is folded, else the page is as wide as it is long."""

OF_THE_FILE = {"content-length", "etag", "last-modified", "cache-control"}
"""Headers of the page as it is on the disk, without what is said on it."""

OF_A_SAMPLE = re.compile(r"/api/studies/\d+(/param_importances|/plot/\w+)?")
"""What is answered from a sample of a large study: its page and its plots. Its CSV file has all trials."""


def of_sample(whole: WSGIApplication, sample: WSGIApplication) -> WSGIApplication:
    """Let one application answer what the page of a study shows, and the other everything else."""

    def routed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reads = environ["REQUEST_METHOD"] == "GET"
        shows = OF_A_SAMPLE.fullmatch(environ.get("PATH_INFO", "")) is not None
        return (sample if reads and shows else whole)(environ, start_response)

    return routed


def told(storage: SampledStorage, *, writable: bool) -> list[str]:
    """What every page says, as HTML: which studies it shows a sample of, and whether it can change them."""
    lines = []
    for study in storage.get_all_studies():
        sample = storage.sample(storage.get_study_id_from_name(study.study_name))
        if sample.every > 1:
            show = escape(command("show", study.study_name))
            lines.append(
                f"{escape(study.study_name)}: {sample.n_trials:,} trials. The page shows one in "
                f"{sample.every} and the best. <code>{show}</code> and the CSV file have all."
            )
    if not writable:
        allow = escape(command("dashboard", "--writable"))
        lines.append(
            f"Read-only: edits and deletions are refused. <code>{allow}</code> allows changes on this page."
        )
    return lines


def with_page(app: WSGIApplication, says: Callable[[], list[str]]) -> WSGIApplication:
    """Add `STYLE`, and what there is to say, to the page itself; everything else passes as it is."""

    def changed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not environ.get("PATH_INFO", "").startswith("/dashboard"):
            return app(environ, start_response)
        # The whole page each time: what is said on it is no part of the file by whose date and tag a browser
        # would ask whether its copy is still good.
        environ.pop("HTTP_IF_MODIFIED_SINCE", None)
        environ.pop("HTTP_IF_NONE_MATCH", None)
        lines = says()
        added = STYLE + (BAR.format(lines="<br>".join(lines)) if lines else "")
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            begun.append((status, headers))

        parts = app(environ, keep)
        try:
            body = b"".join(parts).replace(b"</body>", added.encode() + b"</body>")
        finally:
            getattr(parts, "close", lambda: None)()
        status, headers = begun[-1]
        kept = [(name, value) for name, value in headers if name.lower() not in OF_THE_FILE]
        start_response(status, [*kept, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
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
    sampled = connect_as(SampledStorage, url, create=False)
    told(sampled, writable=writable)  # chooses the samples now, not while the first page waits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna_dashboard  # noqa: PLC0415

        whole = optuna_dashboard.wsgi(storage, artifact_store=artifact_store())
        app = of_sample(whole, optuna_dashboard.wsgi(sampled, artifact_store=artifact_store()))
    try:
        page = with_page(app, lambda: told(sampled, writable=writable))
        for_visitors = guarded(page, writable=writable, token=token)
        return make_server(host, port, for_visitors, _Server, _QuietHandler)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno in NO_ADDRESS:
            raise StorageError(
                f"--host {host}: not an IPv4 address of this machine ({error.strerror}); give one of its "
                "own, or 0.0.0.0 for all of them"
            ) from None
        where = f"--port {port}" if host == HOST else f"--host {host} --port {port}"
        raise StorageError(
            f"{where}: cannot be used ({error.strerror}); try --port 0, which takes a free port"
        ) from None


def serve(url: str, port: int, *, writable: bool, say: Callable[[str], None], host: str = HOST) -> None:
    """Serve until interrupted. To other machines (`host` is not this one's own) only with a token."""
    token = None if host in LOCAL_NAMES else new_token()
    with make_dashboard(url, port, writable=writable, host=host, token=token) as server:
        place = f"http://{socket.gethostname() if host in ALL else host}:{server.server_port}/dashboard/"
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

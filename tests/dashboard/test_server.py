"""The dashboard: served to this machine only, read-only unless asked; a real browser shows a study."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medfathom.dashboard.server import make_dashboard, serve
from medfathom.dashboard.visitors import new_token
from medfathom.definitions.load import load_definition
from medfathom.errors import StorageError
from medfathom.study.connection import default_url
from medfathom.study.open import open_study


@pytest.fixture
def study(workdir: Path) -> str:
    """Three trials, one in each state, the complete one with a learning curve."""
    with open_study(load_definition("demo", ["sampler=random"]), default_url(), "data") as driver:
        numbers = [assignment.number for assignment in iter(driver.assign, None)][:3]
        for epoch, auc in enumerate((0.61, 0.72, 0.83), start=1):
            driver.report(numbers[0], epoch, auc)
        per_class = {f"class{k}": {"auc": 0.123456789 + k} for k in range(40)}
        facts = {"depth": 53, "n_params": 3_374_219, "per_class": per_class}
        driver.complete(numbers[0], 0.83, facts)
        driver.report(numbers[1], 1, 0.55)
        driver.prune(numbers[1], {"depth": 53}, "stopped by asha at epoch 1")
        driver.fail(numbers[2], "non-finite loss", {})
    return "demo"


@contextmanager
def served(*, writable: bool = False, token: str | None = None) -> Iterator[int]:
    with make_dashboard(default_url(), 0, writable=writable, token=token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def request(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_only_local_reading_requests_pass(study: str) -> None:
    with served() as port:
        own = f"127.0.0.1:{port}"
        assert request(port, "GET", "/api/studies", Host=own)[0] == 200
        assert request(port, "GET", "/api/studies", Host=f"localhost:{port}")[0] == 200
        assert request(port, "GET", "/api/studies", Host=own, Origin=f"http://{own}")[0] == 200
        for headers, words in (
            ({"Host": "evil.example"}, b"is not this machine"),
            ({"Host": f"evil.example:{port}"}, b"is not this machine"),
            ({"Host": f"127.0.0.1.evil.example:{port}"}, b"is not this machine"),
            ({"Host": own, "Origin": "http://evil.example"}, b"another site"),
            ({"Host": own, "Origin": "null"}, b"another site"),
        ):
            status, body = request(port, "GET", "/api/studies", **headers)
            assert status == 403
            assert words in body
        status, body = request(port, "DELETE", "/api/studies/1", Host=own)
        assert status == 403
        assert b"read-only" in body
        assert b"demo" in request(port, "GET", "/api/studies", Host=own)[1]


def test_writable_lets_the_page_delete_but_not_another_site(study: str) -> None:
    with served(writable=True) as port:
        own = f"127.0.0.1:{port}"
        assert request(port, "DELETE", "/api/studies/1", Host=own, Origin="http://evil.example")[0] == 403
        assert request(port, "DELETE", "/api/studies/1", Host=own, Origin=f"http://{own}")[0] == 204


def test_other_machines_need_the_token(study: str) -> None:
    token = new_token()
    assert len(token) == 32
    with served(token=token) as port:
        host = {"Host": f"workstation.example:{port}"}
        for path, headers in (
            ("/api/studies", {}),
            ("/api/studies?token=", {}),
            (f"/api/studies?token={token[:-1]}", {}),
            ("/api/studies", {"Cookie": "medfathom_dashboard=wrong"}),
            ("/api/studies", {"Cookie": "medfathom_dashboard"}),
        ):
            status, body = request(port, "GET", path, **host, **headers)
            assert status == 403
            assert token.encode() not in body
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"//evil.example/?token={token}", headers=host)
        response = connection.getresponse()
        assert (response.status, response.headers["Location"]) == (303, "/evil.example/")
        cookie = response.headers["Set-Cookie"]
        connection.close()
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        known = {**host, "Cookie": cookie.split(";")[0]}
        assert b"demo" in request(port, "GET", "/api/studies", **known)[1]
        assert request(port, "DELETE", "/api/studies/1", **known)[0] == 403  # it is read-only all the same
        assert request(port, "GET", "/api/studies", **known, Origin="http://evil.example")[0] == 403


def test_a_token_is_made_for_every_address_but_this_machine_s(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", lambda *_: None)
    said: list[str] = []
    serve(default_url(), 0, writable=False, say=said.append)
    assert "token" not in said[0]
    serve(default_url(), 0, writable=False, say=said.append, host="0.0.0.0")  # noqa: S104
    assert said[1].startswith(f"http://{socket.gethostname()}:")  # no machine can open 0.0.0.0 of another one
    assert "/dashboard/?token=" in said[1]
    assert "not encrypted" in said[2]


def test_a_taken_port_is_one_line(study: str) -> None:
    with served() as port, pytest.raises(StorageError, match=f"--port {port}: cannot be used"):
        make_dashboard(default_url(), port, writable=False)


@pytest.mark.parametrize("host", ["::1", "[::1]", "192.0.2.1"])
def test_an_address_of_no_one_here_is_not_the_port_s_fault(study: str, host: str) -> None:
    with pytest.raises(StorageError, match=rf"--host {re.escape(host)}: not an IPv4 address") as raised:
        make_dashboard(default_url(), 0, writable=False, host=host)
    assert "--port" not in str(raised.value)


def test_no_storage_no_dashboard(workdir: Path) -> None:
    with pytest.raises(StorageError, match="no such storage"):
        make_dashboard(default_url(), 0, writable=False)


def test_the_page_shows_states_curve_and_attributes(study: str, browser_page: Any) -> None:
    with served() as port:
        errors: list[str] = []
        browser_page.on("pageerror", lambda error: errors.append(str(error)))
        browser_page.goto(f"http://127.0.0.1:{port}/dashboard/studies/1/trials")
        for text in ("Complete", "Pruned", "Fail"):
            browser_page.get_by_text(text).first.wait_for(timeout=90_000)
        browser_page.get_by_text("Trial 0").first.click()
        browser_page.get_by_text("definition_hash").first.wait_for(timeout=90_000)
        shown = browser_page.content()
        assert "n_params" in shown
        assert "3374219" in shown
        # A long attribute is folded: it does not widen the page.
        wide = browser_page.evaluate("[...document.querySelectorAll('*')].map(e => e.scrollWidth)")
        assert max(wide) <= 1280
        assert browser_page.get_by_text("Intermediate").count() >= 1
        assert errors == []


def test_the_page_says_that_it_is_read_only(study: str) -> None:
    with served() as port:
        own = f"127.0.0.1:{port}"
        status, page = request(port, "GET", "/dashboard/", Host=own)
        assert status == 200
        assert b"Read-only: edits and deletions are refused" in page
        assert b"dashboard --writable" in page
        body = request(port, "DELETE", "/api/studies/1", Host=own)[1]
        assert "dashboard --writable" in json.loads(body)["reason"]
        assert request(port, "GET", "/static/bundle.js", Host=own)[0] == 200
    with served(writable=True) as port:
        assert b"Read-only" not in request(port, "GET", "/dashboard/", Host=f"127.0.0.1:{port}")[1]


def test_no_browser_keeps_the_page(study: str) -> None:
    """What it says would be out of date: of another storage, or of a dashboard that could not write."""
    with served() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/dashboard/", headers={"Host": f"127.0.0.1:{port}"})
        told = {name.lower(): value for name, value in connection.getresponse().getheaders()}
        connection.close()
    assert told["cache-control"] == "no-store"
    assert not {"etag", "last-modified"} & set(told)

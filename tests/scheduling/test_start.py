"""Ray that does not start: one line that says what to do. No Ray cluster is needed."""

import pytest
import ray

from medfathom.errors import RunError
from medfathom.scheduling import cluster


@pytest.fixture(autouse=True)
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have a Ray; it stays."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_a_machine_that_is_too_busy_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a plain Exception there, with advice for those who run clusters."""

    def too_slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because")

    monkeypatch.setattr(ray, "init", too_slow)
    said = r"^Ray did not start on this machine \(The current node timed out during startup\.\); end other"
    with pytest.raises(RunError, match=said), cluster(None):
        pass


def test_other_errors_are_not_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(**_: object) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(ray, "init", wrong)
    with pytest.raises(TypeError, match="no such argument"), cluster(None):
        pass

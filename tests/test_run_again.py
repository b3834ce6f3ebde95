"""What `run` says when nothing is left to run."""

from types import SimpleNamespace
from typing import Any

import pytest

from medfathom import run


def said(
    monkeypatch: pytest.MonkeyPatch, *, budget: int, asked: int, size: int, finished: int | None = None
) -> str:
    monkeypatch.setattr(run, "all_settled", lambda *_: False)
    monkeypatch.setattr(run, "grid_size", lambda _: size)
    sampler = SimpleNamespace(name="grid")
    budgeted = SimpleNamespace(trials=asked)
    config = SimpleNamespace(name="grid", goal="best", budget=budgeted, sampler=sampler, space=None)
    counts = SimpleNamespace(finished=budget if finished is None else finished)
    driver: Any = SimpleNamespace(config=config, budget=budget, counts=lambda: counts, trials=list)
    return "\n".join(run._at_the_end(driver, nothing_run=True))


def test_an_exhausted_grid_is_told_and_no_more_trials_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    told = said(monkeypatch, budget=2, asked=6, size=2)
    assert "all 2 combinations of the grid have been run" in told
    assert "--trials" not in told
    assert "more values in [space] add trials" in told


def test_a_smaller_budget_than_an_exhausted_grid_promises_no_more_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = said(monkeypatch, budget=1, asked=1, size=2, finished=2)
    assert "--trials" not in told
    assert "more values in [space] add trials" in told


def test_a_finished_study_says_how_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = said(monkeypatch, budget=4, asked=4, size=20)
    assert "`run --trials 12` adds trials" in told
    assert "grid have been run" not in told

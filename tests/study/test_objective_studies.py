"""Studies that look for something else than AUC: what the storage holds, what is stopped, what is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from medfathom.dashboard.notes import study_note, trial_note
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.scheduling.halt import since_best
from medfathom.study.choice import rule_of, rule_words
from medfathom.study.connection import default_url
from medfathom.study.frame import trials
from medfathom.study.open import open_study
from medfathom.study.read import brief_trials, read_study, records
from medfathom.study.stopping import Stopping
from medfathom.study.summary import SHOWN, summarize_study
from medfathom.terminal.progress import JsonLines, RunCount
from medfathom.terminal.show import study_text

REACHED = {
    # AUC, AUPRC, log loss of each trial: each has its own best
    0: (0.80, 0.60, 0.30),
    1: (0.70, 0.50, 0.20),
    2: (0.75, 0.65, 0.40),
}
BEST = {"auc": 0, "auprc": 2, "log_loss": 1}


def looks_for(objective: str) -> StudyConfig:
    pieces = ["sampler=random", "scheduler=asha", "budget.trials=3"]
    return load_definition("demo", [f"objective={objective!r}", "choice.by='auc_then_log_loss'", *pieces])


def spent(objective: str) -> None:
    with open_study(looks_for(objective), default_url(), "data") as driver:
        for assignment in iter(driver.assign, None):
            auc, auprc, loss = REACHED[assignment.number]
            value = {"auprc": auprc, "log_loss": loss}[objective]
            facts = {"auc": auc, "auc_ci_low": auc - 0.1, "auc_ci_high": auc + 0.1, "log_loss": loss}
            driver.report(assignment.number, 1, value)
            driver.complete(assignment.number, value, {**facts, "objective_value": value})


@pytest.mark.parametrize("objective", ["auprc", "log_loss"])
def test_the_best_trial_follows_the_objective_and_the_auc_is_still_told(
    workdir: Path, objective: str
) -> None:
    spent(objective)
    study = read_study(default_url(), "demo")
    assert study.best_trial.number == BEST[objective]  # so Optuna, its samplers and its dashboard
    assert study.direction.name == ("MINIMIZE" if objective == "log_loss" else "MAXIMIZE")
    summary = summarize_study(study, brief_trials(default_url(), study, SHOWN))
    assert summary.objective == objective
    assert summary.choice is not None
    assert summary.choice.best == summary.best[0].number == BEST[objective]
    assert [best.auc for best in summary.best] == [REACHED[best.number][0] for best in summary.best]
    assert [record["auc"] for record in records(study)] == [0.8, 0.7, 0.75]
    frame = trials("demo")
    assert frame["objective_value"].tolist() == [t.value for t in study.trials]
    assert frame["auc"].tolist() == [0.8, 0.7, 0.75]
    assert since_best(study.trials, objective) == 2 - BEST[objective]
    assert rule_of(study) == ("log_loss" if objective == "log_loss" else "objective")
    title = {"auprc": "AUPRC", "log_loss": "log loss"}[objective]
    assert title in rule_words(study)
    buffer = io.StringIO()
    Console(file=buffer, width=200).print(study_text(summary))
    for said in (buffer.getvalue(), study_note(study, study.trials)):
        assert f"The search optimises {title}" in said
        assert "not tested" in said
    assert f"objective {objective}" in buffer.getvalue()
    best = study.best_trial
    note = trial_note(best, study.trials, rule_of(study), objective)
    assert f"Objective of the search: validation {title} {best.value:.4f}." in note
    assert f"Validation AUC {best.user_attrs['auc']:.4f}" in note
    assert "its rank was 1 of 3 complete trials" in note


def test_early_stopping_stops_the_trial_with_the_greater_loss() -> None:
    for objective, stopped in (("log_loss", 0.9), ("auprc", 0.1)):
        stopping = Stopping(looks_for(objective), [])
        for number in range(6):
            stopping.learn("", number, {1: 0.5 + number / 100})
        assert stopping.stops("", 6, 1, stopped)
        assert not stopping.stops("", 7, 1, 1.0 - stopped)


def test_progress_counts_the_least_loss_as_the_best(workdir: Path) -> None:
    spent("log_loss")
    config, stream = looks_for("log_loss"), io.StringIO()
    count, lines = RunCount(), JsonLines(stream)
    with open_study(config, default_url(), "data") as driver:
        for watcher in (count, lines):
            watcher.begin(config, driver, 1)
    assert "lowest log loss 0.2000 (trial 1)" in count.summary()
    lines.epoch(0, 1, 0.3)
    lines.trial_ends(0, "COMPLETE", 0.3, "")
    begin, epoch, end = map(json.loads, stream.getvalue().splitlines())
    assert begin["objective"] == "log_loss"
    assert epoch["value"] == end["value"] == 0.3
    assert "auc" not in epoch

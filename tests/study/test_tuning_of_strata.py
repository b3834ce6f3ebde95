"""When a stratum of a comparison needs no more trials, and what a driver then does."""

from __future__ import annotations

import re
from io import StringIO
from itertools import combinations
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from medfathom.confirmation.choice import unfinished_search
from medfathom.definitions.load import load_definition
from medfathom.run import _at_the_end
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.summary import summarize_study
from medfathom.study.tuning import tuning_sentences, tunings
from medfathom.terminal.show import study_text


def trials(stratum: str, aucs: list[float], half_width: float, stopped: int = 0) -> list[FrozenTrial]:
    return [
        create_trial(
            state=TrialState.PRUNED if i < stopped else TrialState.COMPLETE,
            value=auc,
            user_attrs={
                "stratum": stratum,
                "auc_ci_low": auc - half_width,
                "auc_ci_high": auc + half_width,
                "log_loss": 1 - auc,
            },
        )
        for i, auc in enumerate(aucs)
    ]


def test_a_stratum_is_settled_when_more_trials_bring_less_than_noise() -> None:
    flat = [0.89, 0.9, 0.895, 0.9, 0.9, 0.899, 0.9, 0.9]
    rising = [0.6, 0.61, 0.62, 0.65, 0.7, 0.75, 0.85, 0.9]
    found = tunings(
        [*trials("flat", flat, 0.02), *trials("rising", rising, 0.02), *trials("few", flat[:7], 0.02)],
        ["flat", "rising", "few"],
        "auc",
    )
    assert {name: each.settled for name, each in found.items()} == {
        "flat": True,
        "rising": False,
        "few": False,
    }
    assert {each.among for each in found.values()} == {3}
    draws = [max(draw) for draw in combinations(rising, 4)]
    assert found["rising"].gain is not None
    np.testing.assert_allclose(found["rising"].gain, 0.9 - np.mean(draws))
    assert found["flat"].low is not None
    assert found["few"].low is None
    said = tuning_sentences(found)
    assert "2 of 3 strata may be under-tuned (few; rising)" in said[0]
    fewest = min(each.trials for each in found.values())
    assert f"{fewest} random trials may all miss a good region" in said[1]


def test_a_wide_interval_settles_sooner() -> None:
    aucs = [0.8, 0.85, 0.88, 0.9, 0.9, 0.9, 0.9, 0.91]
    narrow, wide = (tunings(trials("s", aucs, width), ["s"], "auc")["s"] for width in (0.01, 0.1))
    assert narrow.gain == wide.gain
    assert (narrow.settled, wide.settled) == (False, True)


def test_a_stopped_trial_counts_as_a_poor_draw() -> None:
    """It may have been ahead when it was stopped; it has no model."""
    found = tunings(trials("s", [0.99, 0.98, 0.8, 0.81, 0.8, 0.8, 0.8, 0.8], 0.02, stopped=2), ["s"], "auc")[
        "s"
    ]
    assert found.trials == 8
    assert found.expected is not None
    assert found.expected <= 0.81


def compared(budget: int, *more: str) -> list[str]:
    return [
        "goal='compare'",
        "sampler=random",
        "space.architecture.role='scientific'",
        "space.architecture.choices=['tf_efficientnet_lite0', 'tf_efficientnet_lite1']",
        "space.init.value='imagenet'",
        "space.unfreeze_depth.value=0",
        f"budget.trials={budget}",
        *more,
    ]


def spend(overrides: list[str]) -> tuple[dict[str, int], str | None]:
    """Run a study in which one network is the same at every rate, and the other's trials differ much."""
    count: dict[str, int] = {}
    with open_study(load_definition("demo", overrides), default_url(), "data") as driver:
        for assignment in iter(driver.assign, None):
            name, number = assignment.params.architecture, assignment.number
            count[name] = count.get(name, 0) + 1
            auc = 0.9 if name.endswith("0") else 0.5 + 0.03 * count[name]
            driver.complete(
                number, auc, {"auc_ci_low": auc - 0.03, "auc_ci_high": auc + 0.03, "log_loss": 0.4}
            )
        assert driver.done()
        return count, unfinished_search(driver.study)


def test_a_settled_stratum_gets_no_more_trials_and_the_others_get_them(workdir: Path) -> None:
    count, unfinished = spend(compared(20))
    assert count == {"tf_efficientnet_lite0": 8, "tf_efficientnet_lite1": 12}
    assert unfinished is None


def test_without_settling_all_strata_get_the_same(workdir: Path) -> None:
    assert spend(compared(20, "budget.settle=false"))[0] == {
        "tf_efficientnet_lite0": 10,
        "tf_efficientnet_lite1": 10,
    }


def test_a_search_whose_strata_are_all_settled_is_finished(workdir: Path) -> None:
    overrides = compared(40, "space.architecture.choices=['tf_efficientnet_lite0']")
    count, unfinished = spend(overrides)
    assert count == {"tf_efficientnet_lite0": 8}
    assert unfinished is None


def test_a_stratum_without_a_trial_is_told(workdir: Path) -> None:
    """A budget of fewer trials than strata, or a run that was halted, must not hide what was never tried."""
    config = load_definition("demo", compared(1))
    with open_study(config, default_url(), "data") as driver:
        first = driver.assign()
        assert first is not None
        driver.complete(first.number, 0.8, {"auc_ci_low": 0.7, "auc_ci_high": 0.9, "log_loss": 0.4})
        assert driver.assign() is None
        said = list(_at_the_end(driver, nothing_run=False))
        summary = summarize_study(driver.study, driver.trials())
    other = {"tf_efficientnet_lite0", "tf_efficientnet_lite1"} - {first.params.architecture}
    name = f"architecture={other.pop()}"
    assert said == [f"1 of 2 strata had no trial and are not compared ({name}): budget.trials = 1 is too few"]
    assert [(row.stratum == name, row.complete, row.best_auc) for row in summary.strata] == [
        (False, 1, 0.8),
        (True, 0, None),
    ]
    shown = StringIO()
    Console(width=200, file=shown).print(study_text(summary))
    text = shown.getvalue()
    assert re.search(rf"{name} +none complete +0 +0 +0 +open", text)
    assert "expected best of 0" not in text
    assert "1 in 1 " not in text

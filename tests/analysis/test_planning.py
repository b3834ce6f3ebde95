"""Planning: the pilot's variances come back, power behaves, and a planned analysis has the power forecast."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from json_holds import holds
from made_studies import study
from medfathom.analysis.modality import modality_of
from medfathom.analysis.planning import (
    MOST_ARCHITECTURES,
    POWER,
    Design,
    architectures_for,
    pilot_of,
    plan_from,
    power_to_exclude,
    power_to_find,
)
from medfathom.analysis.predictors import PARAMETERS
from medfathom.analysis.report.power import write_power
from medfathom.cli import main

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import planning as made

DESIGNS = st.builds(Design, st.integers(4, 60), st.integers(1, 8), st.integers(1, 5))


def test_a_pilot_gives_its_variances_back() -> None:
    """The mean over 25 pilots, within four standard errors of what they were made with."""
    rng = np.random.default_rng(0)
    design = Design(architectures=12, datasets=4, seeds=3)
    pilots = []
    for _ in range(25):
        frame = made.study(design, effect=0.01, tau=0.0, rng=rng)
        modality = modality_of("CXR", frame)
        assert modality is not None
        pilots.append(pilot_of(modality, frame, PARAMETERS))
    each = made.EACH**2 + made.SEED**2 / 3
    for name, true, df in (
        ("residual", made.OWN**2 + each / 4, 10),
        ("interaction", each, 30),
        ("seed", made.SEED**2, 96),
    ):
        found = np.mean([getattr(pilot, name) for pilot in pilots])
        assert abs(found - true) < 4 * true * np.sqrt(2 / (df * 25)), name
    assert {pilot.interaction_df for pilot in pilots} == {30}
    assert {(pilot.seeds, pilot.cells) for pilot in pilots} == {(3.0, 1.0)}


@pytest.mark.large
@pytest.mark.parametrize(
    ("design", "tau"), [(Design(16, 1, 1), 0.0), pytest.param(Design(12, 3, 1), 0.0, marks=pytest.mark.slow)]
)
def test_an_analysis_has_the_power_that_was_forecast(design: Design, tau: float) -> None:
    """60 studies: the binomial standard error is at most 0.065; `benchmarks/results/planning.md` has more."""
    pilot = made.true_pilot(tau)
    found, excluded = made.measured(design, tau, 60)
    assert abs(found - power_to_find(pilot, design, made.MARGIN, 1)) < 0.17
    assert abs(excluded - power_to_exclude(pilot, design, made.MARGIN, 1)) < 0.17


@given(design=DESIGNS, tau=st.sampled_from([0.0, 0.01]), tests=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_more_of_anything_never_costs_power(design: Design, tau: float, tests: int) -> None:
    """But for the noise of the draws; a third data set alone may cost some: it is then that others "
    "are spoken for."""
    pilot = made.true_pilot(tau)
    for power in (power_to_find, power_to_exclude):
        own = power(pilot, design, made.MARGIN, tests)
        assert 0 <= own <= 1
        for more in (
            replace(design, architectures=2 * design.architectures),
            replace(design, seeds=design.seeds + 2),
        ):
            assert power(pilot, more, made.MARGIN, tests) >= own - 0.03
        assert power(pilot, design, 2 * made.MARGIN, tests) >= own
        assert power(pilot, design, made.MARGIN, tests + 1) <= own


def test_the_number_is_the_fewest_with_80_percent_power() -> None:
    pilot, plan = made.true_pilot(0.0), Design(0, 2, 3)
    needed = architectures_for(pilot, plan, made.MARGIN, 4, power_to_find)
    assert needed is not None
    one_less = power_to_find(pilot, replace(plan, architectures=needed - 1), made.MARGIN, 4)
    assert one_less < POWER <= power_to_find(pilot, replace(plan, architectures=needed), made.MARGIN, 4)
    assert architectures_for(pilot, plan, 1e-4, 4, power_to_find) is None


def test_a_plan_from_rows_has_intervals_and_a_picture(tmp_path: Path) -> None:
    frame = study(datasets={"chest": "CXR", "lung": "CXR", "eye": "OCT"}, noise=0.01)
    planned, without = plan_from(frame, margin=0.03)
    assert without == {}
    assert [(p.pilot.modality, p.pilot.predictor.noun, p.tests) for p in planned] == [
        (modality, noun, 4) for modality in ("CXR", "OCT") for noun in ("parameter count", "depth")
    ]
    for each in planned:
        assert {need.datasets for need in each.needs} == (
            {1, 2, 3, 5, 8} if each.pilot.modality == "CXR" else {1}
        )
        for need in each.needs:
            low, high = (MOST_ARCHITECTURES + 1 if end is None else end for end in need.to_find95)
            assert low <= (need.to_find or MOST_ARCHITECTURES + 1) <= high
    svg, csv = write_power(planned, tmp_path, "pilot")
    assert "CXR: parameter count" in svg.read_text()
    curve = pd.read_csv(csv)
    assert curve["power"].between(0, 1).all()
    assert (curve["low95"] <= curve["high95"]).all()
    assert write_power([], tmp_path, "nothing") == []


def test_what_cannot_be_planned_is_named() -> None:
    few = study(settings=1, seeds=1)
    planned, without = plan_from(
        few[few["architecture"].isin(["vgg16", "resnet50", "xception"])], margin=0.01
    )
    assert planned == []
    assert without == dict.fromkeys(
        ("CXR: parameter count", "CXR: depth"), "3 architectures are too few for a pilot"
    )


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDFATHOM_STORAGE", str(tmp_path / "home"))
    study(settings=1).rename(columns={"auc": "test_auc"}).to_csv(tmp_path / "pilot.csv", index=False)
    typed = [
        "plan",
        "--analysis",
        "--table",
        str(tmp_path / "pilot.csv"),
        "--map",
        "auc=test_auc",
        "--margin",
        "0.02",
    ]

    def ran(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["medfathom", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    code, out, _ = ran(*typed)
    assert code == 0
    assert "80 % power at a margin of 0.02 AUC" in out
    code, out, _ = ran(*typed, "--json")
    content = json.loads(out)
    holds("plan --analysis", content)
    assert {need["tests"] for need in content["planned"]} == {2}
    assert all(Path(file).is_file() for file in content["files"])
    assert ran("plan", "demo", "--table", "x.csv")[0] == 2
    assert "name a study" in ran("plan")[2]
    assert "expected an AUC between 0 and 1" in ran(*typed[:-1], "2")[2]

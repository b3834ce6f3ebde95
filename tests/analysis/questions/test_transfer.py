"""Weights from other data: the matrix of sources and targets."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from made_studies import analyze, study
from medfathom.analysis import write_report
from medfathom.analysis.questions.transfer import transfer_matrix
from medfathom.analysis.report.setting_tables import setting_tables
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.told import ToldOfStudy

SETTINGS = Settings(permutations=499, draws=2_000)
GAINS = {"study:oct": 0.03, "study:wsi": -0.02, "imagenet": 0.05, "random": 0.0}


def matrix(gains: dict[str, float] = GAINS) -> pd.DataFrame:
    """Ten networks, two targets; weights from elsewhere add what is given, and 0.01 in the second."""
    frame = study(inits=tuple(gains), settings=1, noise=0.001, datasets={"chest": "CXR", "retina": "OCT"})
    base = frame["auc"] - 0.02 * (frame["init"] != "random")  # what `study` adds for any pretraining
    more = 0.01 * ((frame["dataset"] == "retina") & frame["init"].str.startswith("study:"))
    return frame.assign(auc=base + frame["init"].map(gains) + more)


def test_each_cell_is_the_gain_over_random() -> None:
    cells = {(c.source, c.dataset): c for c in transfer_matrix(matrix(), SETTINGS, 0.005)}
    assert set(cells) == {(s, d) for s in ("study:oct", "study:wsi", "imagenet") for d in ("chest", "retina")}
    for (source, dataset), cell in cells.items():
        known = GAINS[source] + (0.01 if dataset == "retina" and source != "imagenet" else 0)
        low, high = cell.mean.ci95
        assert low is not None
        assert high is not None
        assert cell.mean.benefit == pytest.approx(known, abs=0.002)
        assert low < cell.mean.benefit < high
        assert (cell.reference, cell.n_architectures, cell.mean.unit) == ("random", 10, "architecture")
        assert cell.mean.verdict == ("helps" if known > 0 else "harms")


def test_without_random_imagenet_is_the_reference() -> None:
    cells = transfer_matrix(matrix({k: v for k, v in GAINS.items() if k != "random"}), SETTINGS, 0.005)
    assert {c.source for c in cells} == {"study:oct", "study:wsi"}
    assert {c.reference for c in cells} == {"imagenet"}
    assert all(c.mean.benefit < 0 for c in cells)


def test_one_network_is_judged_over_its_seeds() -> None:
    frame = matrix()
    own = frame[frame["architecture"] == "vgg16"].copy()
    own.loc[(own["seed"] == 1) & (own["init"] == "random"), "auc"] -= 0.001
    cell = next(c for c in transfer_matrix(own, SETTINGS, 0.005) if c.source == "study:oct")
    assert (cell.mean.unit, cell.mean.n, cell.n_architectures) == ("seed", 2, 1)
    assert cell.mean.ci95[0] is not None


@pytest.mark.parametrize("gains", [{"imagenet": 0.1, "random": 0.0}, {"study:oct": 0.1, "study:wsi": 0.0}])
def test_no_matrix_without_sources_or_without_a_reference(gains: dict[str, float]) -> None:
    assert transfer_matrix(matrix(gains), SETTINGS, 0.005) == []


def test_targets_without_a_source_are_left_out() -> None:
    frame = matrix()
    frame = frame[(frame["dataset"] == "chest") | ~frame["init"].str.startswith("study:")]
    assert {c.dataset for c in transfer_matrix(frame, SETTINGS, 0.005)} == {"chest"}


def test_the_report_shows_a_heat_map(tmp_path: Path) -> None:
    told = ToldOfStudy("from", sources={"study:oct": "octmnist, OCT"})
    analysis = replace(analyze(matrix()), studies=[told])
    write_report(analysis, tmp_path)
    svg, page = ((tmp_path / name).read_text() for name in ("transfer.svg", "report.html"))
    assert "study:oct to retina, depth 0: +0.04" in svg  # what a pointer reads
    assert "oct (octmnist, OCT)" in svg
    assert "Weights from other data against random: helps in 4 of 6; harms in 2 of 6." in page
    data = pd.read_csv(tmp_path / "transfer.csv")
    assert len(data) == 6
    assert (data["low95"] < data["auc_difference"]).all()
    assert {t.title: len(t.rows) for t in setting_tables(analysis)}["Weights from other data"] == 6

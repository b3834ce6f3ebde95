"""The published tables: each says where its numbers are from and can be read; the page says what they say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from made_studies import analyze, study
from medfathom.analysis.rows import prepare

PUBLISHED = Path(__file__).resolve().parents[2] / "benchmarks" / "published"
sys.path.insert(0, str(PUBLISHED))
import run as published  # noqa: E402

SHARED = PUBLISHED.parents[2] / "shared" / "tables"
SOURCES = published.sources()


def test_there_are_tables_enough() -> None:
    """Eight tables and three modalities; the architectures are counted where all tables are at hand."""
    own = [s for s in SOURCES if not s.file.startswith("shared:")]
    assert len(SOURCES) >= 8
    rows = pd.concat([source.rows(SHARED) for source in own])
    assert rows["architecture"].nunique() >= 60
    assert rows["modality"].nunique() >= 3


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_table_has_a_source_and_a_licence_and_can_be_read(source: published.Source) -> None:
    assert source.source.startswith("https://")
    assert source.licence
    if not source.path(SHARED).is_file():
        pytest.skip("the table is not in the repository")
    rows, _ = prepare(source.rows(SHARED))
    assert rows["auc"].between(0, 1).all()
    assert (rows["n_params"] > 1e5).all()


def test_no_table_is_left_without_an_entry() -> None:
    files = {file.name for file in (PUBLISHED / "tables").glob("*.csv")}
    assert files == {s.file for s in SOURCES if not s.file.startswith("shared:")}


def test_the_page_has_every_verdict_and_the_contradictions() -> None:
    """Two tables, one in which the big networks are better and one in which they are worse."""
    up, down = (replace(SOURCES[0], name=name, metric="accuracy") for name in ("up", "down"))
    found = [
        (source, analyze(study(slope=slope, noise=0.001))) for source, slope in ((up, 0.05), (down, -0.05))
    ]
    whole = analyze(study(settings=1, seeds=1))
    text = published.page(found, whole, [SOURCES[1]], (10, 1), published.Effort(1_500, 999))
    assert "| parameter count | up | accuracy | 10 | 1 |" in text
    assert "| increases |" in text
    assert "| decreases |" in text
    assert "**CXR, parameter count**: up in up (+" in text
    assert f"Not at hand when this page was written: {SOURCES[1].name}." in text
    assert "--draws 1500" in text


def test_tables_are_kept_apart_when_analysed_together() -> None:
    """The same data set in two tables is two cells: what a table does to all networks is taken out."""
    frame = study(settings=1, seeds=1)
    other = frame.assign(auc=frame["auc"] - 0.1)
    whole = published.together([(SOURCES[0], frame), (SOURCES[1], other)])
    assert whole["setting"].nunique() == 2
    counts = analyze(whole).modalities["CXR"].counts
    assert (counts.n_cells, counts.n_datasets, counts.n_architectures) == (2, 1, 10)

"""In a notebook: what results show of themselves, and progress; and that the public names are complete."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import medfathom
from made_confirmations import made_model, made_result
from medfathom.confirm import Confirmation
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.definitions.load import load_definition
from medfathom.exported.predictions import Predictions
from medfathom.run import Outcome
from medfathom.study.choice import Choice
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.summary import Counts
from medfathom.study.watcher import Watcher, default_watcher, watch_by_default
from medfathom.terminal import notebook


def test_the_public_names_are_the_same_for_python_and_for_type_checkers() -> None:
    tree = ast.parse(Path(medfathom.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(medfathom.__all__)
    assert all(getattr(medfathom, name).__module__.startswith("medfathom.") for name in names)
    assert (Path(medfathom.__file__).parent / "py.typed").is_file()


def test_an_outcome() -> None:
    choice = Choice("auc", 2, 0.52, None, True, 4, True, ())
    html = Outcome("s<1>", Counts(complete=4, pruned=1), 8, choice, "interrupted")._repr_html_()
    assert "s&lt;1&gt;: 5 of 8 trials" in html
    assert html.index("Perhaps no better than chance") < html.index("Trial 2 is called best")
    assert "Ended early: interrupted" in html


def test_a_confirmation() -> None:
    result = made_result(models=(made_model(), made_model()))
    summary = ConfirmationSummary(
        study="s", modality="OCT", unfinished=None, openings=(), strata=(result,), missing=(), failures=()
    )
    html = Confirmation(summary, "")._repr_html_()
    assert f'<td style="text-align: right">{result.test_auc:.4f}</td>' in html
    assert "Best model on validation" in html
    assert "not been opened" in html


def test_an_analysis() -> None:
    names = ("vgg16", "resnet18", "densenet121", "resnet50")
    rows = [
        {"architecture": n, "dataset": "d", "modality": "CXR", "auc": 0.9 + k / 100}
        for k, n in enumerate(names)
    ]
    html = medfathom.analyze(pd.DataFrame(rows), permutations=99, draws=200)._repr_html_()
    assert "CXR: 4 architectures, 3 families, 1 data set, 1 cell" in html
    assert html.count("<tbody>") == 1
    assert "inconclusive" in html


def test_predictions_show_some_rows_and_count_the_others() -> None:
    n = 25
    found = Predictions([f"{k}.png" for k in range(n)], ["a", "b"], np.full((n, 2), 0.5), ["a"] * n)
    html = found._repr_html_()
    assert "19.png" in html
    assert "20.png" not in html
    assert "5 more" in html


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook displays, the latest last."""
    pages: list[str] = []
    handle = SimpleNamespace(update=pages.append)

    def display(page: str, display_id: bool) -> Any:
        pages.append(page)
        return handle

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return pages


def test_progress_in_a_notebook(workdir: Path, shown: list[str]) -> None:
    table = notebook.NotebookTable()
    table.note("positive class: 'ill'")
    assert shown[-1] == "<p>positive class: &#x27;ill&#x27;</p>"
    config = load_definition("demo", ["sampler=random"])
    with open_study(config, default_url(), "data") as driver:
        table.begin(config, driver, 2)
        assignment = driver.assign()
        assert assignment is not None
        table.trial_begins(assignment)
        table.epoch(0, 1, 0.75)
        table.trial_ends(0, "FAIL", None, "out of memory")
        table.end()
        found = medfathom.trials("demo")
    assert "demo: 1 of 16 trials (1 fail)" in shown[-1]
    assert "trial 0: out of memory" in shown[-1]
    assert "0.7500" in shown[-1]
    assert found.loc[0, "state"] == "RUNNING"
    assert found.loc[0, "architecture"] == assignment.params.architecture
    assert pd.isna(found.loc[0, "auc"])


def test_calls_in_a_notebook_show_progress_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests in this process may have imported it, and typed commands that show their progress.
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    watch_by_default(Watcher)
    try:
        notebook.watch_in_notebooks()
        assert type(default_watcher()) is Watcher
        monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
        assert medfathom.progress is notebook.progress
        assert isinstance(default_watcher(), notebook.NotebookTable)
    finally:
        watch_by_default(Watcher)

"""A large study's page: a fair sample, which grows with the study; its CSV file has all trials."""

import io
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from medfathom.dashboard import sample
from medfathom.dashboard.sample import LARGE, SHOWN, SampledStorage, sample_of, unbeaten
from medfathom.dashboard.server import make_dashboard
from medfathom.study.connection import connect

UP, DOWN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def numbered(values: Sequence[Sequence[float] | None]) -> list[FrozenTrial]:
    """Trials with these values; None: a running one."""
    made = []
    for number, each in enumerate(values):
        state = TrialState.RUNNING if each is None else TrialState.COMPLETE
        trial = create_trial(state=state, values=each)
        trial.number, trial._trial_id = number, number + 7
        made.append(trial)
    return made


def test_a_study_of_ordinary_size_is_shown_whole() -> None:
    found = sample_of(numbered([[0.5]] * LARGE), [UP])
    assert (found.every, len(found.ids)) == (1, LARGE)


def test_of_a_large_study_one_in_so_many_the_best_and_what_runs() -> None:
    values: list[Sequence[float] | None] = [[i % 97 / 97] for i in range(LARGE + 1)]
    values[1], values[3] = [0.999], None
    found = sample_of(numbered(values), [UP])
    assert found.every == -(-(LARGE + 1) // SHOWN)
    assert found.ids == {7 + i for i in range(0, LARGE + 1, found.every)} | {7 + 1, 7 + 3}
    assert (found.n_trials, found.last_id) == (LARGE + 1, LARGE + 7)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_a_trial_is_beaten_if_and_only_if_another_is_as_good_in_all(pairs: list[tuple[int, int]]) -> None:
    trials = numbered([list(map(float, pair)) for pair in pairs])
    front = {t.number for t in unbeaten(trials, [UP, DOWN])}
    for i, (a, b) in enumerate(pairs):
        others = [(c, d, j) for j, (c, d) in enumerate(pairs) if j != i]
        beaten = any(c >= a and d <= b and ((c, d) != (a, b) or j < i) for c, d, j in others)
        assert (i in front) != beaten


def asked(app: Any, path: str, query: str = "") -> bytes:
    """What a server answers."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query}
    environ |= {"HTTP_HOST": "127.0.0.1", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"}
    environ |= {"HTTP_ACCEPT_ENCODING": "", "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http"}
    return b"".join(app(environ, lambda *_: None))


def show_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of five trials is large."""
    monkeypatch.setattr(sample, "LARGE", 4)
    monkeypatch.setattr(sample, "SHOWN", 3)


def test_the_page_grows_with_the_study_and_its_csv_file_is_whole(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_few(monkeypatch)
    url = f"sqlite:///{workdir / 'x.db'}"
    study = optuna.create_study(storage=connect(url, create=True), study_name="many", direction="maximize")

    def add(auc: float) -> None:
        trial = study.ask()
        trial.suggest_float("rate", 0, 1)
        trial.report(auc, 1)
        study.tell(trial, auc)

    for auc in (0.5, 0.6, 0.9, 0.7, 0.6, 0.5, 0.4):
        add(auc)
    with make_dashboard(url, 0, writable=False) as server:
        app = server.get_app()

        def shown(after: int) -> list[int]:
            answer = json.loads(asked(app, "/api/studies/1", f"after={after}"))
            return [trial["number"] for trial in answer["trials"]]

        assert shown(0) == [0, 2, 3, 6]
        page = asked(app, "/dashboard/studies/1").decode()
        assert "many: 7 trials. The page shows one in 3 and the best. <code>" in page
        assert json.loads(asked(app, "/api/studies/1/param_importances"))["param_importances"]
        # optuna-dashboard asks the storage every few seconds; here at once.
        monkeypatch.setattr("optuna_dashboard._storage.timedelta", lambda seconds: timedelta(0))
        add(0.3)
        add(0.2)
        assert shown(4) == [7, 8]
        assert asked(app, "/csv/1").count(b"\n") == 10


def test_a_study_that_is_begun_anew_has_a_sample_of_its_own(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite gives the id of the last study again once that is deleted."""
    show_few(monkeypatch)
    url = f"sqlite:///{workdir / 'x.db'}"
    storage = connect(url, create=True)
    sampled = SampledStorage(url)
    found = []
    for uid, n_trials in (("first", 9), ("second", 2)):
        study = optuna.create_study(storage=storage, study_name="many")
        study.set_user_attr("uid", uid)
        for _ in range(n_trials):
            study.tell(study.ask(), 0.5)
        number = storage.get_study_id_from_name("many")
        found.append((number, sampled.sample(number).every))
        optuna.delete_study(storage=storage, study_name="many")
    assert found == [(1, 3), (1, 1)]

"""The driver: states, attributes, resume, refusal, waiting for a storage that does not answer."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import Study
from optuna.trial import TrialState

from medfathom.confirmation.find import definition_of
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.load import load_definition
from medfathom.errors import RunError, StorageError
from medfathom.study import patience
from medfathom.study.assignment import Assignment
from medfathom.study.connection import check_url, connect, default_url
from medfathom.study.driver import Driver
from medfathom.study.open import difference, open_study
from medfathom.study.patience import Patience
from medfathom.study.read import SCHEMA, records
from medfathom.study.read import read_study as load
from medfathom.study.summary import summarize_study
from medfathom.study.weights import keep_to_its_weights
from medfathom.urls import shown
from storm_storages import small_disk


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return load_definition("demo", ["budget.trials=5", "sampler=random"])


@pytest.fixture
def driver(config: StudyConfig) -> Iterator[Driver]:
    with open_study(config, default_url(), "data-1") as opened:
        yield opened


def test_trials_end_in_the_state_they_earned(driver: Driver) -> None:
    first, second, third = (driver.assign() for _ in range(3))
    assert first and second and third
    driver.report(first.number, 1, 0.7)
    driver.complete(first.number, 0.7, {"epochs": 1, "depth": 50})
    driver.report(second.number, 1, 0.9)
    driver.prune(second.number, {"epochs": 1}, "stopped by asha at epoch 1")
    driver.fail(third.number, "non-finite loss", {})
    trials = driver.trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].value == 0.7
    assert trials[0].user_attrs["depth"] == 50
    assert trials[1].intermediate_values == {1: 0.9}
    assert trials[2].value is None
    assert trials[2].user_attrs["stop_reason"] == "non-finite loss"
    for trial in trials:
        assert trial.user_attrs["architecture"] == trial.params["architecture"]
        assert trial.user_attrs["definition_hash"] == driver.config.definition_hash


def test_the_budget_counts_running_and_ended_trials(driver: Driver) -> None:
    numbers = [a.number for a in iter(driver.assign, None)]
    assert numbers == [0, 1, 2, 3, 4]
    driver.fail(0, "lost", {})
    assert driver.assign() is None


def test_trials_that_no_run_goes_on_with_end_where_they_are(driver: Driver) -> None:
    first, second, third = (driver.assign() for _ in range(3))
    assert first
    assert second
    assert third
    driver.report(first.number, 1, 0.6)
    driver.report(first.number, 2, 0.7)
    driver.report(second.number, 1, 0.8)
    ended = driver.stop_in_hand({second.number: {"epochs": 1, "auc": 0.8, "n_params": 7}}, "no better AUC")
    assert ended == [0, 1, 2]
    trials = driver.trials()
    assert [t.state for t in trials] == [TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert [t.user_attrs.get("epochs") for t in trials] == [2, 1, None]
    assert trials[0].user_attrs["stop_reason"] == "stopped at epoch 2: no better AUC"
    assert trials[1].user_attrs["n_params"] == 7
    assert (driver.counts().finished, driver.counts().running) == (2, 0)  # one had not begun: it is not spent
    assert summarize_study(driver.study, trials).failures == []
    assert [row["number"] for row in records(driver.study)] == [0, 1]


def complete_all(driver: Driver) -> list[Assignment]:
    done = []
    while assignment := driver.assign():
        driver.report(assignment.number, 1, 0.8)
        driver.complete(assignment.number, 0.8, {"epochs": 1, "auc": 0.8})
        done.append(assignment)
    return done


def test_a_withdrawn_trial_is_not_counted_for_its_stratum(workdir: Path) -> None:
    """The network whose epochs are the longest is the one that has none when a run is ended."""
    changes = ["goal=compare", "sampler=random", "scheduler=none", "budget.trials=9"]
    compared = load_definition(
        "demo", [*changes, "space.unfreeze_depth={value=5}", "space.init={value='random'}"]
    )
    done: Counter[str] = Counter()
    with open_study(compared, default_url(), "data") as opened:
        for _ in range(3):
            while (assignment := opened.assign()) and "lite2" not in assignment.stratum:
                opened.complete(assignment.number, 0.8, {"epochs": 1})
                done[assignment.stratum] += 1
            opened.stop_in_hand({}, "device-hours are spent")
        done.update(a.stratum for a in complete_all(opened))
    assert set(done.values()) == {3}


def test_a_grid_is_complete_where_trials_were_withdrawn(workdir: Path) -> None:
    space = ["space.unfreeze_depth={choices=[0,5]}", "space.init={value='random'}"]
    fixed = ["space.learning_rate={value=0.001}", "sampler=grid", "scheduler=none"]
    whole = load_definition("demo", [*fixed, "budget.trials=100", *space])
    size = trials_of(whole)
    done: set[str] = set()
    with open_study(whole, default_url(), "data") as opened:
        # The second trial is withdrawn, the last one, and the one that takes the place of the second.
        for number in range(size + 2):
            assignment = opened.assign()
            assert assignment
            if number in (1, size - 1, size):
                opened.stop_in_hand({}, "device-hours are spent")
            else:
                opened.complete(assignment.number, 0.8, {"epochs": 1})
                done.add(assignment.params.model_dump_json())
        done.update(a.params.model_dump_json() for a in complete_all(opened))
        assert len(done) == opened.counts().complete == size


def test_a_queue_is_run_to_its_end_whoever_adds_or_takes_away(driver: Driver) -> None:
    """Two live confirmations share one queue: the budget of neither is what the other may see."""
    driver.queue_only = True
    assert driver.assign() is None  # nothing is queued: no trial is drawn
    assert driver.done()
    for architecture in ("tf_efficientnet_lite0", "tf_efficientnet_lite1"):
        driver.study.enqueue_trial({"architecture": architecture}, user_attrs={"seed": 5})
    first = driver.assign()
    assert first
    driver.study.enqueue_trial(
        {"architecture": "tf_efficientnet_lite2"}, user_attrs={"seed": 6}
    )  # another call's
    others = [driver.assign(), driver.assign()]
    assert driver.assign() is None
    for assignment in (first, *others):
        assert assignment
        assert not driver.done()
        driver.complete(assignment.number, 0.8, {})
    assert driver.done()
    assert len(driver.trials()) == 3


def test_weights_that_changed_at_their_path_are_noticed(driver: Driver, tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"first")
    space = "space={architecture={value='resnet10t'},unfreeze_depth={value=0},"
    space += f"init={{value='file:{weights}'}}}}"
    config = load_definition("demo", [space])
    keep_to_its_weights(driver.study, config)
    keep_to_its_weights(driver.study, config)
    weights.write_bytes(b"second")
    with pytest.raises(
        StorageError, match=r"other weights of init 'file:.*sha256 a7937b64b8ca, now 16367aacb67a"
    ):
        keep_to_its_weights(driver.study, config)


def test_a_second_report_of_an_epoch_changes_nothing(driver: Driver) -> None:
    assignment = driver.assign()
    assert assignment
    driver.report(assignment.number, 1, 0.6)
    driver.report(assignment.number, 1, 0.8)
    assert driver.trials()[0].intermediate_values == {1: 0.6}


def test_attributes_are_written_together_and_again(driver: Driver) -> None:
    assignment = driver.assign()
    assert assignment
    driver.annotate(assignment.number, {"macs": 1, "versions": {"torch": "2"}})
    driver.annotate(assignment.number, {"macs": 2})
    attributes = driver.trials()[0].user_attrs
    assert (attributes["macs"], attributes["versions"]) == (2, {"torch": "2"})


def test_what_is_not_a_number_is_refused(driver: Driver) -> None:
    assignment = driver.assign()
    assert assignment
    with pytest.raises(ValueError, match="Out of range float"):
        driver.annotate(assignment.number, {"auc": float("nan")})


def test_trials_left_running_are_adopted_under_their_numbers(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1") as first:
        left = [first.assign(), first.assign()]
        assert left[1]
        first.report(left[1].number, 1, 0.8)
    with open_study(config, default_url(), "data-1") as second:
        adopted = second.adopt()
        assert [a.number for a in adopted] == [0, 1]
        assert adopted[1].params == left[1].params
        assert adopted[1].seed == left[1].seed
        assert adopted[1].reported == {1: 0.8}
        new = second.assign()
        assert new
        assert new.number == 2


def test_a_resumed_sampler_does_not_repeat_itself(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1") as first:
        before = first.assign()
    with open_study(config, default_url(), "data-1") as second:
        after = second.assign()
    assert before and after
    assert before.params != after.params


def test_strata_get_equal_budgets(workdir: Path) -> None:
    config = load_definition("demo", ["goal=compare", "budget.trials=72", "sampler=random"])
    with open_study(config, default_url(), "data-1") as driver:
        strata = [a.stratum for a in iter(driver.assign, None)]
    assert sorted(strata) == sorted(2 * list(dict.fromkeys(strata)))
    assert len(set(strata)) == 36


def test_a_stratum_that_always_fails_gets_its_share_and_no_more(workdir: Path) -> None:
    config = load_definition("demo", ["goal=compare", "budget.trials=72", "sampler=random"])
    strata = []
    with open_study(config, default_url(), "data-1") as driver:
        for assignment in iter(driver.assign, None):
            strata.append(assignment.stratum)
            if assignment.stratum == strata[0]:
                driver.fail(assignment.number, "out of memory", {})
            else:
                driver.complete(assignment.number, 0.8, {})
    assert set(Counter(strata).values()) == {2}


@pytest.mark.parametrize("goal", ["best", "compare"])
def test_a_grid_resumed_again_and_again_is_every_combination_once(workdir: Path, goal: str) -> None:
    """The strata are a part of the grid: 2 architectures, 2 depths, and 3 rates to be tuned."""
    space = "space={architecture={choices=['vgg11','vgg13'],role='scientific'},init={value='random'},"
    space += "unfreeze_depth={choices=[0,5],role='scientific'},learning_rate={choices=[0.1,0.01,0.001]}}"
    config = load_definition("demo", [f"goal={goal}", "budget.trials=50", "sampler=grid", space])
    seen: list[Assignment] = []
    for _ in range(6):
        with open_study(config, default_url(), "data-1") as driver:
            for assignment in filter(None, (driver.assign(), driver.assign())):
                driver.complete(assignment.number, 0.8, {})
                seen.append(assignment)
    with open_study(config, default_url(), "data-1") as driver:
        assert driver.assign() is None
    points = {(a.params.architecture, a.params.unfreeze_depth, a.params.learning_rate) for a in seen}
    assert len(points) == len(seen) == 12
    assert len({a.stratum for a in seen[:4]}) == 4


def test_a_changed_definition_is_refused_with_the_difference(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1"):
        pass
    changed = load_definition("demo", ["budget.epochs=9", "sampler=random"])
    with (
        pytest.raises(StorageError, match=r"budget.epochs: 5 -> 9.*--fresh"),
        open_study(changed, default_url(), "data-1"),
    ):
        pass


def test_what_may_change_is_kept_as_the_last_run_had_it(workdir: Path) -> None:
    first = load_definition("pneumoniamnist", ["dataset.path=old.npz", "training.cached_views=2"])
    with open_study(first, default_url(), "data-1"):
        pass
    before = load(default_url(), first.name).user_attrs
    changes = ["budget.trials=9", "budget.minutes=3", "dataset.path=new.npz", "resources.concurrent=2"]
    changes += ["training.cached_views=2", "training.weights_dir=moved", "question=Better asked?"]
    later = load_definition("pneumoniamnist", changes)
    with open_study(later, default_url(), "data-1"):
        pass
    study = load(default_url(), first.name)
    after = study.user_attrs
    assert definition_of(study) == later
    assert {key for key in after if after[key] != before[key]} == {"definition", "question"}
    assert after["question"] == "Better asked?"
    assert after["definition_hash"] == later.definition_hash


def test_a_resume_without_changes_writes_nothing(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_study(config, default_url(), "data-1"):
        pass
    written: list[str] = []
    monkeypatch.setattr(Study, "set_user_attr", lambda _, key, value: written.append(key))
    with open_study(config, default_url(), "data-1"):
        pass
    assert written == []


def test_a_refused_definition_leaves_the_kept_one(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1"):
        pass
    changed = load_definition("demo", ["budget.epochs=9", "budget.trials=7", "sampler=random"])
    for other, data in ((changed, "data-1"), (load_definition("demo", ["sampler=random"]), "data-2")):
        with pytest.raises(StorageError), open_study(other, default_url(), data):
            pass
    assert definition_of(load(default_url(), "demo")) == config


def test_other_data_are_refused(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1"):
        pass
    with (
        pytest.raises(StorageError, match="started on other data"),
        open_study(config, default_url(), "data-2"),
    ):
        pass


def test_fresh_keeps_the_old_study_under_another_name(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1") as first:
        old = first.checkpoint(0)
        assert first.assign()
    with open_study(config, default_url(), "data-2", fresh=True) as second:
        assert second.trials() == []
        assert second.checkpoint(0) != old
    names = [s.study_name for s in optuna.get_all_study_summaries(connect(default_url(), create=False))]
    assert len(names) == 2
    assert any(name.startswith("demo (until ") for name in names)


def test_a_second_driver_is_refused(config: StudyConfig, driver: Driver) -> None:
    with (
        pytest.raises(StorageError, match="another run of 'demo' holds it"),
        open_study(config, default_url(), "data-1"),
    ):
        pass


def test_what_a_newer_version_wrote_is_refused_with_the_way_out(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data") as driver:
        definition = driver.study.user_attrs["definition"]
        driver.study.set_user_attr("definition", {**definition, "quantum": True})
        with pytest.raises(StorageError, match=r"quantum: extra inputs.*pip install -U medfathom$"):
            definition_of(driver.study)
        driver.study.set_user_attr("schema", SCHEMA + 1)
    with pytest.raises(StorageError, match=r"newer medfathom \(schema 2; .*pip install -U medfathom$"):
        load(default_url(), "demo")


def test_a_study_of_a_newer_version_is_refused(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data-1") as driver:
        driver.study.set_user_attr("schema", SCHEMA + 1)
    with (
        pytest.raises(StorageError, match="made by a newer medfathom"),
        open_study(config, default_url(), "data-1"),
    ):
        pass


def test_reading_creates_nothing(workdir: Path) -> None:
    with pytest.raises(StorageError, match="has not been run yet"):
        load(default_url(), "demo")
    assert list(workdir.iterdir()) == []


def test_an_unknown_study_gets_the_nearest(config: StudyConfig, driver: Driver) -> None:
    with pytest.raises(StorageError, match="did you mean 'demo'"):
        load(default_url(), "dmo")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url", "not a database URL"),
        ("nosuchdb://x/y", "SQLite or PostgreSQL"),
        ("postgresql+nodriver://user:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_storage_that_is_none(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        connect(url, create=True)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql//bob:s3cret@db/x",
        "postgresql:bob:s3cret@db/x",
        "bob:s3cret@db/x",
        "postgresql://bob:s3cret",
        "postgresql://bob:s3cret@db:54x/x",
        "postgresql+psycopg://bob:x@s3cret@db/x",
        "postgresql+psycopg://bob:x@s3:cret@db/x",
        "postgresql+psycopg://bob:x@127.0.0.1/s3cret@db/x",
        "postgresql+psycopg://bob:x@127.0.0.1?s3cret@db/x",
        "postgresql+psycopg:///bob:s3cret@db",
        "postgresql+psycopg://127.0.0.1:1/x?user=bob&password=s3cret",
        "postgresql+psycopg://bob:s3cret@127.0.0.1:1/x",
    ],
)
def test_no_message_tells_a_password(workdir: Path, config: StudyConfig, url: str) -> None:
    def opened() -> None:
        with open_study(config, url, "data-1"):
            pass

    for use in (
        lambda: connect(url, create=False),
        lambda: check_url(url),
        opened,
        lambda: load(url, "demo"),
    ):
        with pytest.raises(StorageError) as caught:
            use()
        message = str(caught.value)
        assert not [part for part in ("s3cret", "s3", "cret") if part in message]
        assert "\n" not in message
    assert list(workdir.iterdir()) == []


def test_no_study_keeps_a_password(workdir: Path) -> None:
    config = load_definition("demo", ["resources.checkpoint_url=memory://me:se@cret@host/checkpoints"])
    with open_study(config, default_url(), "data") as driver:
        kept = driver.study.user_attrs["definition"]["resources"]
    assert kept["checkpoint_url"] == "memory://me:***@host/checkpoints"
    assert b"cret" not in (workdir / "storage" / "medfathom.db").read_bytes()
    assert definition_of(load(default_url(), "demo")).resources.checkpoint_url == kept["checkpoint_url"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://bob:x@y@db/x", "percent-encode @ : / in the password"),
        ("postgresql://bob:x@db:y@db/x", "percent-encode @ : / in the password"),
        ("postgresql://bob@db:54x/x", "port"),
        ("nonsense", "such as sqlite:///file.db"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        check_url(url)


def test_runs_are_refused_where_drivers_cannot_be_kept_apart(workdir: Path, config: StudyConfig) -> None:
    url = "mysql+pymysql://bob:s3cret@127.0.0.1:1/x"
    words = r"mysql\+pymysql://bob:\*\*\*@127.0.0.1:1/x: studies can be stored in SQLite or PostgreSQL"
    for use in (lambda: check_url(url), lambda: connect(url, create=True)):
        with pytest.raises(StorageError, match=words):
            use()
    with pytest.raises(StorageError, match=words), open_study(config, url, "data-1"):
        pass
    with pytest.raises(StorageError, match="cannot be opened"):  # to read is another matter
        connect(url, create=False)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql+psycopg://bob:s3cret@db:5432/x", "postgresql+psycopg://bob:***@db:5432/x"),
        ("postgresql+psycopg://bob%40acme:s%40t@db/x", "postgresql+psycopg://bob%40acme:***@db/x"),
        ("postgresql://bob@db:5432/x?sslmode=require", "postgresql://bob@db:5432/x?sslmode=require"),
        ("postgresql:///x?host=/run/pg&password=a", "postgresql:///x?host=/run/pg&password=***"),
        ("sqlite:////data/a:b@c/x.db", "sqlite:////data/a:b@c/x.db"),
        ("resources.checkpoint_url=sftp://bob:s3@nas/x", "resources.checkpoint_url=sftp://bob:***@nas/x"),
        ("postgresql//bob:s3cret@db/x", "postgresql//bob:***@db/x"),
        ("bob:s3cret@db/x", "bob:***@db/x"),
        ("budget.trials=8", "budget.trials=8"),
        ("resources.checkpoint_url=s3://bucket/x", "resources.checkpoint_url=s3://bucket/x"),
    ],
)
def test_what_is_shown_of_a_url(url: str, text: str) -> None:
    assert shown(url) == text


def test_a_file_that_is_no_database(workdir: Path) -> None:
    (workdir / "x.db").write_text("hello, this is not a database " * 50)
    with pytest.raises(StorageError, match="cannot be opened"):
        connect("sqlite:///x.db", create=True)


def test_a_storage_on_a_disk_that_cannot_be_written(workdir: Path) -> None:
    folder = workdir / "archive"
    folder.mkdir()
    storage = connect("sqlite:///x.db", create=True)
    optuna.create_study(storage=storage)
    storage.engine.dispose()
    url = f"sqlite:///{folder / 'x.db'}"
    with small_disk(folder, 16) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        shutil.copy("x.db", folder)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(StorageError, match="copy it to a folder that can be written to"):
            connect(url, create=False)


def _failing(times: int) -> Iterator[None]:
    for _ in range(times):
        raise_it = sa.exc.OperationalError("SELECT 1", {}, Exception("the server went away"))
        yield raise_it  # type: ignore[misc]


def test_an_outage_is_waited_out(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "OUTAGE_POLL_S", 0.0)
    said: list[str] = []
    failures = _failing(3)

    def action() -> str:
        error = next(failures, None)
        if error is not None:
            raise error
        return "answered"

    assert Patience(driver._rdb, None, said.append)(action) == "answered"
    assert said == ["waiting for the storage ((builtins.Exception) the server went away)"] * 3


def test_an_outage_without_end_fails(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "OUTAGE_S", -1.0)

    def action() -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("the server went away"))

    with pytest.raises(RunError, match="has not answered"):
        Patience(driver._rdb, None, print)(action)


def test_difference_names_what_changed() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": "x"}}
    after = {"a": 1, "b": {"c": [1, 3], "d": "x"}, "e": None}
    assert difference(before, after) == ["b.c: [1, 2] -> [1, 3]"]
    assert difference(before, {**after, "e": 1}) == ["b.c: [1, 2] -> [1, 3]", "e: null -> 1"]


def test_every_commit_is_on_the_disk(driver: Driver) -> None:
    """SQLite syncs its log at each commit: 2 is FULL."""
    with driver._rdb.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2


def test_a_trial_is_in_the_database_before_its_checkpoint_goes(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "after a power cut"
    unlink = Path.unlink

    def cut(file: Path, missing_ok: bool = False) -> None:
        if file.suffix == ".pt" and file.exists():
            shutil.copytree("storage", copy, dirs_exist_ok=True)
        unlink(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", cut)
    ends = {
        TrialState.COMPLETE: lambda number: driver.complete(number, 0.7, {"epochs": 1}),
        TrialState.PRUNED: lambda number: driver.prune(number, {"epochs": 1}, "stopped"),
        TrialState.FAIL: lambda number: driver.fail(number, "lost", {}),
    }
    for state, end in ends.items():
        assignment = driver.assign()
        assert assignment
        file = driver.checkpoint(assignment.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        driver.report(assignment.number, 1, 0.7)
        end(assignment.number)
        assert not file.exists()
        left = load(f"sqlite:///{copy}/medfathom.db", "demo").trials[-1]
        assert left.state == state
        assert "stop_reason" in left.user_attrs
        assert left.user_attrs["seed"] == assignment.seed
        assert (copy / file.relative_to("storage")).exists()


def test_the_definition_is_kept_whole(config: StudyConfig, driver: Driver) -> None:
    kept = driver.study.user_attrs["definition"]
    assert StudyConfig.model_validate(json.loads(json.dumps(kept))) == config

"""Storages that earlier versions wrote: `older/` has what `sqlite3 medfathom.db .dump` gave of each."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from medfathom.cli import main
from medfathom.confirmation.find import by_configuration, find_confirmation
from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.read import read_study
from medfathom.study.record import record_of

OLDER = Path(__file__).parent / "older"


@pytest.fixture(params=sorted(OLDER.glob("*.sql.gz")), ids=lambda file: file.name)
def storage(request: pytest.FixtureRequest, workdir: Path) -> Path:
    """Three trials of the study `tiny`, and one confirmed model."""
    file = workdir / "storage" / "medfathom.db"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as database:
        database.executescript(gzip.decompress(request.param.read_bytes()).decode())
    return file


@pytest.mark.usefixtures("storage")
def test_every_trial_has_a_record() -> None:
    study = read_study(default_url(), "tiny")
    records = [record_of(trial) for trial in study.get_trials()]
    assert [record.architecture for record in records] == ["tf_efficientnet_lite0"] * 3
    for record in records:
        assert record.max_epochs == 3
        assert record.epochs in (1, 2, 3)
        assert record.n_params is not None
        assert 0.0 <= (record.auc or -1.0) <= 1.0
        assert record.losses is not None
        assert len(record.losses.train) == record.epochs


@pytest.mark.usefixtures("storage")
def test_the_confirmation_is_found() -> None:
    study = read_study(default_url(), "tiny")
    confirmation = find_confirmation(study)
    assert confirmation is not None
    ((model,),) = by_configuration(confirmation).values()
    assert record_of(model).finished
    assert 0.0 <= model.user_attrs["test_auc"] <= 1.0


@pytest.mark.usefixtures("storage")
def test_show_reads_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["medfathom", "show", "tiny"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "tf_efficientnet_lite0" in capsys.readouterr().out


@pytest.mark.usefixtures("storage")
def test_the_study_goes_on() -> None:
    """The definition is the same as it was: its hash did not change with the version."""
    study = read_study(default_url(), "tiny")
    definition = load_definition(str(OLDER / "tiny.toml"), ["budget.trials=4"])
    fingerprint = study.user_attrs["dataset_fingerprint"]
    with open_study(definition, default_url(), fingerprint) as driver:
        assert driver.counts().finished == 3
        assignment = driver.assign()
        assert assignment is not None
        assert assignment.number == 3

"""What earlier versions wrote is read, or refused in one line.

`older/` has of each version what `sqlite3 medfathom.db .dump` gave of the study `tiny.toml` with a
confirmation by one seed, its `prepared.json`, the `medfathom.json` of a model, and a checkpoint of two
tensors.
"""

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch

from medfathom.cli import main
from medfathom.confirmation.find import by_configuration, find_confirmation
from medfathom.data.prepared import FACTS_FILE, read_facts
from medfathom.definitions.load import load_definition
from medfathom.errors import ExportedModelError
from medfathom.models.folder import CONFIG_FILE, read_config
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.read import read_study
from medfathom.study.record import record_of
from medfathom.trial.checkpoint import load_checkpoint

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
    models = [model for seeds in by_configuration(confirmation).values() for model in seeds]
    assert models
    for model in models:
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


def newest(pattern: str) -> list[Path]:
    """Files of a kind that earlier versions wrote; there is at least one."""
    found = sorted(OLDER.glob(pattern))
    assert found
    return found


@pytest.mark.parametrize("file", newest("checkpoint-*.pt"), ids=lambda file: file.name)
def test_a_checkpoint_is_read(file: Path) -> None:
    found = load_checkpoint(file, torch.device("cpu"))
    assert found is not None
    assert found.identity == {"seed": 7}
    assert [(record.auc, record.epochs) for record in found.history] == [(0.75, 1)]
    assert (found.micro_batch, found.train_seconds, found.validation) == (16, 1.5, b"predictions")
    assert {name: tuple(tensor.shape) for name, tensor in found.network.items()} == {
        "weight": (2, 3),
        "bias": (2,),
    }
    torch.optim.AdamW(torch.nn.Linear(3, 2).parameters()).load_state_dict(found.optimizer)


def test_a_checkpoint_of_another_form_is_none(tmp_path: Path) -> None:
    """Its trial begins anew."""
    content = newest("checkpoint-*.pt")[-1].read_bytes()
    assert content.startswith(b"medfathom-checkpoint-2\n")
    (tmp_path / "x.pt").write_bytes(content.replace(b"checkpoint-2", b"checkpoint-3", 1))
    assert load_checkpoint(tmp_path / "x.pt", torch.device("cpu")) is None


@pytest.mark.parametrize("file", newest("prepared-*.json"), ids=lambda file: file.name)
def test_prepared_data_are_read(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / FACTS_FILE)
    facts = read_facts(tmp_path)
    assert facts.data.sizes == {"train": 48, "val": 24, "test": 24}
    assert facts.data.modality == "OCT"
    assert facts.data.fingerprint.startswith("34d8b3dc3895")


@pytest.mark.parametrize("file", newest("model-*.json"), ids=lambda file: file.name)
def test_a_models_configuration_is_read(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / CONFIG_FILE)
    config = read_config(tmp_path)
    assert (config.architecture, config.image_size, config.medfathom) == (
        "tf_efficientnet_lite0",
        32,
        "0.1.0",
    )


def test_a_newer_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    text = newest("model-*.json")[-1].read_text()
    (tmp_path / CONFIG_FILE).write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(ExportedModelError, match=r"version is not 1\); upgrade: pip install -U medfathom$"):
        read_config(tmp_path)

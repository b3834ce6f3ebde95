"""`medfathom data shift` on phantoms, and what `analyze` takes from it."""

import json
from pathlib import Path

import pytest

from json_holds import holds
from medfathom.cli import main
from medfathom.definitions.load import load_definition
from medfathom.errors import InputError
from medfathom.shift import measure_shift, remembered, with_shifts

STUDY = """
version = 1
name = "drift"
question = "How far is it?"
sampler = "random"
scheduler = "none"
budget = { trials = 2, epochs = 1 }
[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 32
n_train = 24
n_val = 12
n_test = 12
[space]
architecture = { choices = ["tf_efficientnet_lite0", "vgg11"], role = "scientific" }
"""


@pytest.fixture
def definition(workdir: Path) -> Path:
    path = workdir / "drift.toml"
    path.write_text(STUDY)
    return path


def test_networks_without_weights_here_are_named_not_counted(definition: Path) -> None:
    config = load_definition(str(definition))
    found, picture = measure_shift(config, n_images=16)
    assert [shift.architecture for shift in found] == ["tf_efficientnet_lite0", "vgg11"]
    assert found[0].value is not None
    assert found[0].value > 0
    assert found[0].n_images == 16
    assert found[1].value is None
    assert "vgg11" in found[1].reason
    assert picture.read_text().startswith("<?xml")


def test_analyze_finds_what_was_measured(definition: Path) -> None:
    config = load_definition(str(definition))
    found, _ = measure_shift(config, ["tf_efficientnet_lite0"], n_images=16)
    (fingerprint,) = (path.stem for path in Path("storage/cache/shift").iterdir())
    assert remembered(fingerprint) == {"tf_efficientnet_lite0": found[0].value}
    record = {"dataset_fingerprint": fingerprint, "architecture": "tf_efficientnet_lite0", "auc": 0.9}
    assert with_shifts([record])[0]["domain_shift"] == found[0].value
    assert "domain_shift" not in with_shifts([{**record, "architecture": "vgg11"}])[0]


def test_an_architecture_of_another_study_gets_the_nearest(definition: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'vgg11'"):
        measure_shift(load_definition(str(definition)), ["vgg1"])


def test_the_command_prints_json(
    definition: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["data", "shift", str(definition), "--architecture", "tf_efficientnet_lite0", "--images", "8"]
    monkeypatch.setattr("sys.argv", ["medfathom", *command, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    holds("data shift", found)
    (only,) = found
    assert only["n_images"] == 8
    assert len(only["layers"]) == 49

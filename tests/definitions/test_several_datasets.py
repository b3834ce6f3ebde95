"""`[[datasets]]`: what goes together, what does not, and the study of one of them alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import JointDataset, members, the_one
from medfathom.definitions.load import load_definition
from medfathom.definitions.write import resolved
from medfathom.errors import DefinitionError
from medfathom.terminal.listing import print_datasets
from medfathom.validate import _check_norms

STUDY = """
version = 1
name = "both"
goal = "compare"
[joint]
channels = 3
[[datasets]]
source = "phantom-cxr"
name = "chest"
modality = "CXR"
image_size = 32
[[datasets]]
source = "phantom-wsi"
name = "tissue"
modality = "WSI"
image_size = 32
[space.architecture]
role = "scientific"
choices = ["resnet18", "resnet34"]
[space.norm]
role = "scientific"
choices = ["shared", "per_dataset"]
[budget]
trials = 8
epochs = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "both.toml"
    path.write_text(STUDY)
    return path


def read(file: Path, *overrides: str) -> StudyConfig:
    return load_definition(str(file), overrides)


def test_several_data_sets_are_one_study(file: Path) -> None:
    study = read(file)
    assert isinstance(study.dataset, JointDataset)
    assert study.dataset.names == ["chest", "tissue"]
    assert (study.dataset.name, study.dataset.modality) == ("chest+tissue", "CXR+WSI")
    assert (study.dataset.image_size, study.dataset.channels) == (32, 3)
    assert study.sizes == [32]


def test_what_is_written_down_is_read_as_the_same_study(file: Path, tmp_path: Path) -> None:
    study = read(file)
    again = tmp_path / "again.toml"
    again.write_text(resolved(study))
    assert "[[datasets]]" in again.read_text()
    assert read(again) == study
    # As a storage keeps it.
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study
    assert read(again).definition_hash == study.definition_hash


def test_names_of_several_data_sets_belong_to_the_study_their_places_do_not(file: Path) -> None:
    study = read(file)
    renamed = file.with_name("renamed.toml")
    renamed.write_text(STUDY.replace('"chest"', '"thorax"'))
    accepting = file.with_name("accepting.toml")
    accepting.write_text(STUDY.replace('name = "chest"', 'name = "chest"\nleakage = "accept"'))
    assert read(renamed).definition_hash != study.definition_hash
    assert read(accepting).definition_hash == study.definition_hash


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "tissue"', "", r"datasets\.1\.name = None: each of \[\[datasets\]\] needs a name"),
        ('name = "tissue"', 'name = "a/b"', r"datasets\.1\.name = 'a/b'"),
        ('name = "tissue"', 'name = "chest"', "two of .* are called 'chest'"),
        ('"WSI"\nimage_size = 32', '"WSI"\nimage_size = 64', "one size, but got chest 32, tissue 64"),
        (
            '"WSI"\nimage_size = 32',
            '"WSI"\nimage_size = 32\nsplits = {folds = 5}',
            r"datasets\.1\.splits\.folds: .*not cross-validated",
        ),
        ('"phantom-wsi"', '"phantom-ws"', r"datasets\.1\.source: no such source 'phantom-ws'; did you mean"),
        (
            'modality = "WSI"',
            'modalty = "WSI"',
            r"datasets\.1\.modalty: unknown key; did you mean 'modality'",
        ),
        ("channels = 3", "chanels = 3", r"joint\.chanels: unknown key; did you mean 'channels'"),
        ("channels = 3", "channels = 1", r"joint\.channels: input should be 3"),
        (
            "[budget]",
            '[dataset]\nsource = "phantom-oct"\nmodality = "OCT"\n[budget]',
            r"give \[dataset\] or \[\[datasets\]\], not both",
        ),
        ("[budget]", "[space.image_size]\nchoices = [32, 64]\n[budget]", "space.image_size does not go with"),
        ("[budget]", '[space.combine]\nvalue = "max"\n[budget]', "space.combine does not go with"),
        (
            "[budget]",
            "[space.unfreeze_depth]\nchoices = [0, 5]\n[budget]",
            '"per_dataset" means nothing with unfreeze_depth = 0',
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    file: Path, before: str, after: str, said: str
) -> None:
    assert before in STUDY
    file.write_text(STUDY.replace(before, after, 1))
    with pytest.raises(DefinitionError, match=said) as refused:
        read(file)
    assert "\n" not in str(refused.value)


def test_depth_0_goes_with_shared_batch_norm(file: Path) -> None:
    left_out = '[[space.exclude]]\nnorm = "per_dataset"\nunfreeze_depth = 0\n'
    depths = "[space.unfreeze_depth]\nchoices = [0, 5]\n"
    file.write_text(STUDY.replace("[budget]", f"{depths}{left_out}[budget]"))
    assert len(read(file).space.strata()) == 4


@pytest.mark.parametrize("key", ["norm", "sampling", "sampling_temperature"])
def test_what_needs_several_data_sets_is_refused_with_one(key: str) -> None:
    value = {"norm": "shared", "sampling": "equal", "sampling_temperature": 2.0}[key]
    with pytest.raises(DefinitionError, match=rf"space\.{key} needs several data sets"):
        load_definition("demo", [f"space.{key}.value={value}"])


def test_one_of_several_is_a_study_of_its_own(file: Path) -> None:
    study = read(file, "only=tissue", "budget.epochs=3")
    assert study.name == "both-tissue"
    assert (study.dataset.source, study.dataset.name) == ("phantom-wsi", "tissue")
    assert study.space.scientific() == ["architecture"]
    # Two norms were compared: each architecture has as many trials as with each norm.
    assert (study.budget.trials, study.budget.epochs) == (4, 3)


def test_only_names_one_that_is_there(file: Path) -> None:
    with pytest.raises(DefinitionError, match="only = 'tissues': no such data set; did you mean 'tissue'"):
        read(file, "only=tissues")
    with pytest.raises(DefinitionError, match="only = 'chest' needs several data sets"):
        load_definition("demo", ["only=chest"])


def test_what_looks_at_one_data_set_says_how_to_name_it(file: Path) -> None:
    with pytest.raises(DefinitionError, match=r"data shift uses one .* `--set only=NAME` \(chest, tissue\)"):
        the_one(read(file).dataset, "data shift")
    alone = read(file, "only=chest").dataset
    assert the_one(alone, "data shift") is alone
    assert members(alone) == [alone]


def test_batch_norm_for_each_needs_a_network_that_has_it(file: Path) -> None:
    file.write_text(STUDY.replace("resnet34", "vit_tiny_patch16_224"))
    with pytest.raises(
        DefinitionError, match='"per_dataset": vit_tiny_patch16_224 without batch norm; leave'
    ):
        _check_norms(read(file))
    left_out = '[[space.exclude]]\nnorm = "per_dataset"\narchitecture = "vit_tiny_patch16_224"\n[budget]'
    file.write_text(file.read_text().replace("[budget]", left_out))
    _check_norms(read(file))


def test_the_shipped_study_is_as_many_trials_of_each_kind_alone_as_together() -> None:
    for small in ("smoke=true", "smoke=false"):
        joint = load_definition("one_model", [small])
        for name in joint.dataset.names:  # type: ignore[union-attr]
            alone = load_definition("one_model", [small, f"only={name}"])
            per_stratum = joint.budget.trials / len(joint.space.strata())
            assert alone.budget.trials / len(alone.space.strata()) == per_stratum
            assert alone.budget.epochs == joint.budget.epochs


def test_each_of_several_data_sets_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_datasets(as_json=True)
    rows = [row for row in json.loads(capsys.readouterr().out) if row["study"] == "one_model"]
    assert [(row["name"], row["modality"]) for row in rows] == [
        ("pneumoniamnist", "CXR"),
        ("octmnist", "OCT"),
        ("pathmnist", "WSI"),
    ]

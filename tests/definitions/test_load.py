"""Definitions: every shipped one parses; every mistake is one line that names file, key, value, way out."""

from pathlib import Path

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import members
from medfathom.definitions.load import PIECES, load_definition, names
from medfathom.errors import DefinitionError

MINIMAL = """
version = 1
name = "mine"
[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 32
[space.architecture]
role = "scientific"
choices = ["resnet18", "resnet34"]
[sampler]
name = "random"
[scheduler]
name = "none"
[budget]
trials = 4
epochs = 2
"""


@pytest.fixture
def minimal(workdir: Path) -> Path:
    path = workdir / "mine.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("name", sorted(names("study_defs")))
def test_every_shipped_study_parses(name: str) -> None:
    config = load_definition(name)
    assert config.name == name
    assert config.space.strata()
    assert StudyConfig.model_validate(config.model_dump(mode="json")) == config  # as a study keeps it


@pytest.mark.parametrize(("key", "kind"), PIECES.items())
def test_every_shipped_piece_parses(minimal: Path, key: str, kind: str) -> None:
    pieces = names(f"search/{kind}")
    assert pieces
    for name in pieces:
        config = load_definition(str(minimal), [f"{key}={name}"])
        assert getattr(config, key).description


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.image_sze=3", ["dataset.image_sze", "unknown key", "did you mean 'image_size'"]),
        ("architecture.choices=['resnet18']", ["architecture", "did you mean space.architecture?"]),
        ("dataset.image_size=1.5", ["dataset.image_size", "valid integer", "1.5"]),
        ("dataset.image_size=4", ["dataset.image_size", "greater than or equal to 8", "got 4"]),
        ("budget.trials=many", ["budget.trials", "valid integer", "'many'"]),
        ("space.lerning_rate.value=1", ["lerning_rate", "did you mean 'learning_rate'"]),
        ("space.unfreeze_depth.choices=[0,7]", ["unfreeze_depth = 7", "less than or equal to 5"]),
        ("space.learning_rate.low=1", ["learning_rate", "`low < high` must hold"]),
        ("space.optimizer.choices=['adma']", ["optimizer = 'adma'", "'adam'"]),
        ("space.architecture.choices=[]", ["architecture.choices", "at least 1"]),
        ("space.architecture.role='fixed'", ["architecture", "role 'fixed' needs a value"]),
        ("sampler=tpee", ["no search/samplers/tpee.toml", "did you mean 'tpe'"]),
        ("scheduler.base=ashaa", ["no search/schedulers/ashaa.toml", "did you mean 'asha'"]),
        ("dataset.source=nope", ["dataset", "'nope'", "phantom-oct"]),
        ("goal=win", ["goal", "'best' or 'compare'", "'win'"]),
        ("name='../x'", ["name", "../x"]),
        ("nonsense", ["--set nonsense", "key=value"]),
        ("name.x=1", ["--set name.x=1", "not a table"]),
    ],
)
def test_a_mistake_is_one_line(minimal: Path, override: str, words: list[str]) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_definition(str(minimal), [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_several_mistakes_are_counted(minimal: Path) -> None:
    with pytest.raises(DefinitionError, match=r"\(and 1 more\)"):
        load_definition(str(minimal), ["goal=win", "budget.trials=0"])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"version = = 1", "not valid TOML"), (b"\xff\xfe", "cannot be read"), (None, "no such file")],
)
def test_a_file_that_is_no_definition(workdir: Path, content: bytes | None, words: str) -> None:
    path = workdir / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DefinitionError, match=words):
        load_definition(str(path))


def test_an_unknown_study_gets_the_nearest_names(workdir: Path) -> None:
    with pytest.raises(DefinitionError, match="did you mean 'demo'"):
        load_definition("demmo")


def test_a_piece_in_the_working_folder_wins(workdir: Path, minimal: Path) -> None:
    folder = workdir / "search" / "budgets"
    folder.mkdir(parents=True)
    (folder / "demo.toml").write_text("trials = 3\nepochs = 1\n")
    assert load_definition(str(minimal), ["budget=demo"]).budget.trials == 3


def test_a_named_piece_can_be_changed(minimal: Path) -> None:
    config = load_definition(str(minimal), ["budget=demo", "budget.trials=5"])
    assert (config.budget.trials, config.budget.epochs) == (5, 5)


def test_a_dimension_is_replaced_whole(minimal: Path) -> None:
    config = load_definition(
        str(minimal), ["space=lite", "space.learning_rate.value=0.001", "space.learning_rate.role=fixed"]
    )
    assert config.space.dimensions["learning_rate"].low is None


@pytest.mark.parametrize(
    "override",
    ["budget.trials=9", "budget.minutes=1.0", "question='?'", "resources.concurrent=1", "dataset.name=eyes"],
)
def test_what_may_change_between_runs(minimal: Path, override: str) -> None:
    assert (
        load_definition(str(minimal), [override]).definition_hash
        == load_definition(str(minimal)).definition_hash
    )


@pytest.mark.parametrize("override", ["budget.epochs=9", "seed=1", "dataset.seed=1", "scheduler=asha"])
def test_what_makes_another_study(minimal: Path, override: str) -> None:
    assert (
        load_definition(str(minimal), [override]).definition_hash
        != load_definition(str(minimal)).definition_hash
    )


def test_the_place_of_the_data_is_not_part_of_the_study(workdir: Path, minimal: Path) -> None:
    of_npz = ["dataset.source=npz", "dataset.path=a.npz"]
    text = MINIMAL.replace('"phantom-oct"', '"npz"\npath = "a.npz"')
    minimal.write_text(text)
    other = [*of_npz, "dataset.path=b.npz"]
    assert (
        load_definition(str(minimal), of_npz).definition_hash
        == load_definition(str(minimal), other).definition_hash
    )


def test_where_weights_and_features_lie_does_not_make_another_study() -> None:
    plain = load_definition("demo")
    moved = load_definition("demo", ["training.weights_dir=elsewhere", "training.cache_gb=1"])
    assert moved.identity() == plain.identity()
    assert load_definition("demo", ["training.grey=sum"]).identity() != plain.identity()


def test_a_misspelt_key_is_told_before_the_key_that_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('versoin = 1\nname = "a"\n[dataset]\nsource = "phantom-oct"\nmodality = "OCT"\n')
    with pytest.raises(
        DefinitionError, match=r"versoin: unknown key; did you mean 'version'\?.*\(and 2 more\)"
    ):
        load_definition(str(path))
    path.write_text('version = 1\nname = "a"\n[dataset]\nmodality = "OCT"\nimage_size = 32\n')
    with pytest.raises(DefinitionError, match=r"dataset\.source: missing; give it one of csv, folder"):
        load_definition(str(path))


def test_a_smoke_table_replaces_keys_only_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'version = 1\nname = "s"\n[dataset]\nsource = "phantom-cxr"\nmodality = "CXR"\nimage_size = 64\n'
        '[budget]\ntrials = 40\nepochs = 9\n[smoke]\nname = "s_smoke"\nbudget = {trials = 4, epochs = 1}\n'
    )
    assert load_definition(str(file)).budget.trials == 40
    small = load_definition(str(file), ["smoke=true", "budget.epochs=2"])
    assert (small.name, small.budget.trials, small.budget.epochs) == ("s_smoke", 4, 2)
    assert load_definition(str(file), ["smoke=false"]).name == "s"
    with pytest.raises(DefinitionError, match="expected smoke=true"):
        load_definition(str(file), ["smoke=yes"])
    with pytest.raises(DefinitionError, match=r"pneumoniamnist\.toml: has no \[smoke\] table"):
        load_definition("pneumoniamnist", ["smoke=true"])


@pytest.mark.parametrize("name", ["which_strategy", "one_model"])
def test_studies_that_tune_have_a_small_run_of_one_trial_a_stratum(name: str) -> None:
    whole, small = load_definition(name), load_definition(name, ["smoke=true"])
    assert whole.question.endswith("?")
    assert whole.asks == small.asks != "size"
    assert small.name == f"{name}_smoke"
    assert whole.budget.trials >= 6 * len(whole.space.strata())
    assert small.budget.trials == len(small.space.strata())
    assert all(one.source.startswith("phantom") for one in members(small.dataset))


@pytest.mark.parametrize("name", ["first_experiments", "when_pretraining_fails", "resolution", "attention"])
def test_the_papers_questions_are_shipped_with_a_small_run(name: str) -> None:
    whole, small = load_definition(name), load_definition(name, ["smoke=true"])
    assert whole.question.endswith("?")
    assert whole.asks == small.asks != "size"
    assert small.name == f"{name}_smoke"
    for config in (whole, small):
        assert config.budget.trials == len(config.space.strata())
    assert small.dataset.source.startswith("phantom")


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        ("init", {"choices": ["random"]}, {"role": "scientific", "choices": ["random"]}),
        ("unfreeze_depth", {"high": 2}, {"role": "scientific", "low": 0, "high": 2}),
        ("unfreeze_depth", {"choices": [0, 5]}, {"role": "scientific", "choices": [0, 5]}),
        ("unfreeze_depth", {"role": "nuisance"}, {"role": "nuisance", "low": 0, "high": 5}),
        ("learning_rate", {"low": 0.001}, {"role": "nuisance", "low": 0.001, "high": 0.01, "log": True}),
        ("learning_rate", {"choices": [0.1, 0.2]}, {"role": "nuisance", "choices": [0.1, 0.2]}),
        ("init", {"value": "random"}, {"role": "fixed", "value": "random"}),
    ],
)
def test_a_dimension_of_a_base_keeps_what_is_not_changed(
    workdir: Path, as_table: bool, name: str, changes: dict[str, object], wanted: dict[str, object]
) -> None:
    """A comparison of inits stays one when other inits are named, a logarithmic range logarithmic."""
    path, content = workdir / "mine.toml", MINIMAL.partition("[space")[0]
    overrides = ["space=lite", *(f"space.{name}.{key}={value!r}" for key, value in changes.items())]
    if as_table:
        table = "\n".join(f"{key} = {value!r}" for key, value in changes.items())
        content, overrides = f'{content}\n[space]\nbase = "lite"\n[space.{name}]\n{table}\n', []
    path.write_text(content)
    found = load_definition(str(path), overrides).space.dimensions[name]
    assert found.model_dump(exclude_defaults=True, exclude={"role"}) | {"role": found.role} == wanted

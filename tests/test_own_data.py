"""From data to a definition: what is written can be run, is not written twice, and says what was guessed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
from medfathom import cli, own_data
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition, names
from medfathom.definitions.write import resolved
from medfathom.errors import InputError, RunError
from medfathom.own_data import definition_for, study_name_of, write_definition
from medfathom.run import Outcome
from medfathom.study.open import open_study
from medfathom.study.summary import Counts
from medfathom.terminal.run import _definition

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medfathom(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command: exit code, output, errors."""

    def typed(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medfathom", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return typed


@pytest.fixture
def scans(workdir: Path) -> Path:
    """A folder of 2 classes, 12 patients and 24 images each."""
    for k in range(48):
        folder = workdir / "chest scans" / ("ill", "healthy")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (72, 80), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"patient{k // 4 * 2 + k % 2:02d}_{k}.png")
    return workdir / "chest scans"


def test_what_init_writes_is_valid_and_tells_its_guesses(medfathom: Typed, scans: Path) -> None:
    code, out, err = medfathom("init", scans)
    assert (code, err) == (0, "")
    assert "chest-scans.toml: 48 images of 24 patients (or slides); classes: healthy 24, ill 24" in out
    assert "modality: the word 'chest' in 'chest scans'" in out
    assert "positive: 'healthy' says that something is not there" in out
    assert out.rstrip().endswith("run chest-scans.toml")
    text = Path("chest-scans.toml").read_text()
    assert "# Guessed: the word 'chest' in 'chest scans'\nmodality" in text
    code, out, _ = medfathom("validate", "chest-scans.toml")
    assert (code, "valid; 36 strata, 16 trials" in out) == (0, True)
    config = load_definition("chest-scans.toml")
    assert (config.dataset.image_size, config.dataset.positive) == (64, "ill")
    code, _, err = medfathom("init", scans)
    assert (code, "already exists" in err) == (2, True)
    code, out, _ = medfathom("init", scans, "--out", "b.toml", "--modality", "MR", "--json")
    assert (code, json.loads(out)["study"], load_definition("b.toml").dataset.modality) == (0, "b", "MR")


def test_a_place_to_run_gets_a_definition_once(scans: Path) -> None:
    path, said = _definition(str(scans), None)
    assert path == "chest-scans.toml"
    assert "Guessed:" in said[0]
    before = Path(path).read_text()
    assert _definition(str(scans), None) == (path, ["definition: chest-scans.toml"])
    assert Path(path).read_text() == before
    assert _definition("demo", None) == ("demo", [])
    assert _definition("nowhere", None) == ("nowhere", [])
    other = scans.parent / "else" / "chest scans"
    other.mkdir(parents=True)
    with pytest.raises(InputError, match="names other data"):
        definition_for(other)


def test_a_modality_that_the_definition_does_not_have_is_refused(scans: Path) -> None:
    path, _ = _definition(str(scans), "OCT")
    assert _definition(str(scans), "OCT")[0] == _definition(path, "OCT")[0] == path
    for place in (str(scans), path, "demo"):
        with pytest.raises(InputError, match="its modality is 'OCT', not 'MR'"):
            _definition(place, "MR")
    for own in (scans, path):
        with pytest.raises(InputError, match="its modality is 'OCT', not 'MR'"):
            own_data.fit(own, modality="MR")


def test_no_study_is_named_as_a_shipped_one(workdir: Path) -> None:
    path = making.npz(workdir).rename(workdir / "pneumoniamnist.npz")
    assert write_definition(path).name == "my-pneumoniamnist"
    assert study_name_of(Path("a b/ü.csv.gz")) == "study"


def test_sizes_and_budgets_fit_images_and_machine(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "_machine", lambda: "GPU")
    written = write_definition(scans)
    config = load_definition(str(written.path))
    assert (config.budget.trials, config.budget.minutes, config.dataset.image_size) == (40, 240.0, 64)


@pytest.mark.parametrize("name", sorted(names("study_defs")))
def test_a_resolved_definition_is_the_same_study(name: str, tmp_path: Path) -> None:
    config = load_definition(name)
    (tmp_path / "again.toml").write_text(resolved(config))
    again = load_definition(str(tmp_path / "again.toml"))
    assert again == config
    assert again.definition_hash == config.definition_hash


def test_show_prints_the_resolved_definition(medfathom: Typed) -> None:
    code, out, _ = medfathom("show", "demo", "--definition")
    assert (code, "warm_start" in out, "[space.architecture]" in out) == (0, True, True)
    code, out, _ = medfathom("show", "demo", "--definition", "--json")
    assert json.loads(out)["sampler"]["name"] == "gain"
    code, _, err = medfathom("show", "nosuch", "--definition")
    assert (code, err.count("\n")) == (2, 1)


def test_show_prints_a_stored_studys_own_definition(medfathom: Typed, workdir: Path) -> None:
    """Not the shipped one of that name: the study was run with another budget."""
    url = f"sqlite:///{workdir / 'own.db'}"
    with open_study(load_definition("demo", ["budget.trials=7"]), url, "data"):
        pass
    asked = ("--definition", "--json", "--storage", url)
    assert json.loads(medfathom("show", "demo", *asked)[1])["budget"]["trials"] == 7
    code, _, err = medfathom("show", "bloodmnist", *asked)
    assert (code, "no study 'bloodmnist'" in err) == (2, True)
    Path("storage").mkdir(exist_ok=True)
    (workdir / "own.db").rename(workdir / "storage" / "medfathom.db")
    assert json.loads(medfathom("show", "demo", "--definition", "--json")[1])["budget"]["trials"] == 7
    Path("demo.toml").write_text(resolved(load_definition("demo")))
    _, out, _ = medfathom("show", "demo.toml", "--definition", "--json")
    assert json.loads(out)["budget"]["trials"] == load_definition("demo").budget.trials != 7


def test_samples_are_data_of_ones_own(medfathom: Typed, workdir: Path) -> None:
    code, out, err = medfathom("samples", "s")
    assert (code, err) == (0, "")
    assert "medfathom init s/oct-scans" in out
    written = write_definition(Path("s/oct-scans"))
    assert written.found.startswith("120 images of 60 patients (or slides); classes: ")
    assert load_definition(str(written.path)).dataset.modality == "OCT"
    assert len(list(Path("s/new-scans").iterdir())) == 12
    code, _, err = medfathom("samples", "s")
    assert (code, "already exists" in err) == (2, True)


def test_a_short_definition_is_the_one_that_names_the_defaults(tmp_path: Path) -> None:
    short = 'version = 1\nname = "s"\n[dataset]\nsource = "phantom-oct"\nmodality = "OCT"\nimage_size = 32\n'
    (tmp_path / "short.toml").write_text(short)
    pieces = 'space = "lite"\nsampler = "gain"\nscheduler = "curve"\nbudget = "small"\n'
    (tmp_path / "long.toml").write_text(short.replace("[dataset]", f"{pieces}[dataset]"))
    config = load_definition(str(tmp_path / "short.toml"))
    assert config == load_definition(str(tmp_path / "long.toml"))
    assert load_definition(str(tmp_path / "short.toml"), ["budget.trials=3"]).budget.epochs == 12


def test_fit_spends_nothing_on_a_folder_that_it_may_not_write(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def halted(config: StudyConfig, **_: object) -> Outcome:
        asked.append(config.name)
        return Outcome(config.name, Counts(0, 0, 0, 0), config.budget.trials, None, "interrupted")

    monkeypatch.setattr("medfathom.run.run_study", halted)
    with pytest.raises(InputError, match="no model folder"):
        own_data.fit(scans, out=scans)
    assert asked == []
    with pytest.raises(RunError, match="interrupted; the same call continues"):
        own_data.fit(scans)
    assert asked == ["chest-scans"]

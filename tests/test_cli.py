"""The commands as typed: exit codes, one-line errors, nothing created by bad input, light imports."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from json_holds import holds
from medfathom import cli
from medfathom import run as study
from medfathom.definitions.load import load_definition
from medfathom.errors import of_a_file
from medfathom.run import Outcome
from medfathom.study.choice import Choice
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.summary import Counts

CHOICE = Choice(
    by="auc", best=0, auc=0.8, log_loss=0.5, chance=False, finished=1, losses_known=True, equal=()
)
"""Of a study with one finished trial."""


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medfathom(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Types a command: exit code, standard output, standard error."""

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medfathom", *arguments])
        monkeypatch.setenv("COLUMNS", "220")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return typed


@pytest.fixture
def studied(workdir: Path) -> None:
    """A study with trials in every state, three architectures complete."""
    with open_study(load_definition("demo", ["sampler=random"]), default_url(), "data") as driver:
        for assignment in iter(driver.assign, None):
            facts = {
                "n_params": 4_000_000 + assignment.params.unfreeze_depth,
                "depth": 53,
                "family": "efficientnet",
            }
            if assignment.number == 0:
                driver.fail(assignment.number, "out of memory: lower batch_size", facts)
            elif assignment.number % 4 == 1:
                driver.report(assignment.number, 1, 0.99)
                driver.prune(assignment.number, facts, "stopped by asha at epoch 1")
            else:
                auc = 0.7 + assignment.number / 100
                driver.complete(
                    assignment.number, auc, facts | {"auc_ci_low": auc - 0.1, "auc_ci_high": auc + 0.1}
                )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "demmo"], "did you mean 'demo'"),
        (["run", "demo", "--set", "dataset.image_sze=3"], "unknown key"),
        (
            ["run", "demo", "--set", "dataset.source=foldr"],
            "dataset.source: no such source 'foldr'; did you mean",
        ),
        (["run", "demmo"], "medfathom: study 'demmo': no study_defs/demmo.toml; did you mean 'demo'?"),
        (["run", "demo", "--set", "space.architecture.choices=['resnet5']"], "resnet50"),
        (["run", "demo", "--set", "space.init.choices=['imagenett']"], "imagenett"),
        (["run", "pneumoniamnist", "--set", "dataset.path=nowhere.npz"], "nowhere.npz"),
        (["run", "pneumoniamnist", "--set", "dataset.path=text.npz"], "text.npz"),
        (["run", "demo", "--trials", "none"], "--trials"),
        (["run", "demo", "--storage", "nonsense"], "not a database URL"),
        (["run", "demo", "--storage", "postgresql://bob:a@b:c@db/x"], "percent-encode @ : / in the password"),
        (["show", "demo", "--storage", "postgresql://bob@db:54x/x"], "port"),
        (["run"], "Missing argument"),
        (["runn"], "run"),
        (["validate", "demo", "--set", "goal=win"], "goal"),
        (["show", "demo"], "has not been run yet"),
        (["dashboard"], "no such storage"),
        (["confirm", "demo"], "has not been run yet"),
        (["confirm", "demo", "--seeds", "0"], "--seeds"),
        (["export", "demo", "--out", "model"], "has not been run yet"),
        (["export", "demo", "0.01", "--out", "model"], "smallest-within"),
        (["predict", "model", "image.png"], "no such model folder"),
        (["analyze"], "nothing to analyse"),
        (["analyze", "demo"], "has not been run yet"),
        (["analyze", "--table", "none.csv"], "none.csv"),
        (["list", "architectures", "--sort", "size"], "--sort size"),
        (["list", "nothing"], "nothing"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_creates_nothing(
    medfathom: Cli, workdir: Path, arguments: list[str], words: str
) -> None:
    (workdir / "text.npz").write_text("no zip")
    code, out, err = medfathom(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("medfathom: ")
    assert err.count("\n") == 1
    assert words in err
    assert [p.name for p in workdir.iterdir()] == ["text.npz"]


def test_debug_shows_the_traceback(medfathom: Cli) -> None:
    code, _, err = medfathom("run", "demmo", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_how_to_go_on_is_said_without_passwords(medfathom: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    halted = Outcome("demo", Counts(complete=1, running=1), 16, CHOICE, "20 minutes are over")
    monkeypatch.setattr(study, "run_study", lambda *_, **__: halted)
    url = "postgresql+psycopg://bob:s3cret@db/x"
    place = "resources.checkpoint_url=sftp://bob:s3cret@nas/x"
    code, out, err = medfathom("run", "demo", "--storage", url, "--set", place, "--trials", "16")
    assert (code, err) == (0, "")
    assert "To continue: medfathom run demo" in out
    assert "--storage 'postgresql+psycopg://bob:***@db/x'" in out
    assert "--set budget.trials=16" in out
    assert "s3cret" not in out


def test_what_comes_next_names_the_same_storage(medfathom: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Outcome("demo", Counts(complete=16), 16, CHOICE, "")
    monkeypatch.setattr(study, "run_study", lambda *_, **__: done)
    code, out, err = medfathom("run", "demo", "--storage", "sqlite:///other.db")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Trial 0 is called best: it has the highest validation AUC (AUC 0.8000, log loss 0.5).",
        "Next:",
        "  medfathom show demo --storage sqlite:///other.db",
        "  medfathom dashboard --storage sqlite:///other.db",
        "  medfathom confirm demo --storage sqlite:///other.db",
    ]
    code, out, err = medfathom("run", "demo")
    assert "  medfathom show demo" in out.splitlines()


def test_an_errors_hint_names_the_same_storage(medfathom: Cli) -> None:
    _, _, err = medfathom("show", "demo", "--storage", "sqlite:///other.db")
    assert "`medfathom run demo --storage sqlite:///other.db` makes it" in err
    _, _, err = medfathom("show", "demo")
    assert "`medfathom run demo` makes it" in err


def test_validate_says_what_would_run(medfathom: Cli, workdir: Path) -> None:
    code, out, err = medfathom("validate", "demo")
    assert (code, err) == (0, "")
    assert "demo: valid; 36 strata, 16 trials" in out
    made = {file.parent.name for file in workdir.rglob("*") if file.is_file()}
    assert made == {"validated"}  # what it read, for the next call


def test_validate_goes_through_all_of_them(medfathom: Cli) -> None:
    code, out, err = medfathom("validate", "demo", "demmo", "nix")
    assert code == 2
    assert out.count("valid;") == 1
    assert err.count("\n") == 2


@pytest.mark.usefixtures("studied")
def test_show(medfathom: Cli) -> None:
    code, out, _ = medfathom("show", "demo")
    assert code == 0
    for word in ("COMPLETE", "PRUNED", "FAIL", "Best trials", "0.8500", "out of memory: lower batch_size"):
        assert word in out
    code, out, _ = medfathom("show", "demo", "--json")
    summary = json.loads(out)
    holds("show", summary)
    assert summary["states"] == {"COMPLETE": 11, "PRUNED": 4, "FAIL": 1, "RUNNING": 0}
    assert [b["auc"] for b in summary["best"]] == sorted((b["auc"] for b in summary["best"]), reverse=True)
    assert all(b["auc"] < 0.9 for b in summary["best"])
    assert all(s["best_auc"] is None or s["best_auc"] < 0.9 for s in summary["strata"])
    assert summary["failures"] == [{"reason": "out of memory: lower batch_size", "trials": 1}]


@pytest.mark.usefixtures("studied")
def test_analyze_a_study(medfathom: Cli, workdir: Path) -> None:
    code, out, err = medfathom("analyze", "demo", "--out", "report")
    assert code == 2
    assert "medfathom confirm demo" in err
    code, out, err = medfathom("analyze", "demo", "--exploratory")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("Log: ")
    report = workdir / "storage" / "reports" / "demo-exploratory"  # never in the place of the confirmed one
    assert "Exploratory" in out
    assert "inconclusive" in out
    content = json.loads((report / "analysis.json").read_text())
    assert content["exploratory"] is True
    assert content["modalities"]["OCT"]["predictors"]["log10_params"]["verdict"] == "inconclusive"
    assert list(report.glob("*.svg"))
    left_out = " ".join(e["reason"] for e in content["exclusions"])
    assert "stopped" in left_out or "pruned" in left_out.lower()


@pytest.mark.parametrize(
    "kind", ["studies", "architectures", "datasets", "spaces", "samplers", "schedulers", "budgets"]
)
def test_list(medfathom: Cli, kind: str) -> None:
    code, table, _ = medfathom("list", kind)
    assert code == 0
    code, text, _ = medfathom("list", kind, "--json")
    rows = json.loads(text)
    assert rows
    assert all(str(row["name"]) in table for row in rows)


def test_list_architectures_filters_and_sorts(medfathom: Cli) -> None:
    _, text, _ = medfathom("list", "architectures", "resnet", "--sort", "n_params", "--json")
    rows = json.loads(text)
    assert all("resnet" in row["name"] or "resnet" in row["family"] for row in rows)
    assert [r["n_params"] for r in rows] == sorted(r["n_params"] for r in rows)


def test_help_teaches(medfathom: Cli) -> None:
    for arguments in ((), ("--help",)):
        code, out, _ = medfathom(*arguments)
        assert code == 0
        for command in ("run", "validate", "show", "dashboard", "analyze", "list"):
            assert command in out


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [("run --nope", "run"), ("data check --nope", "data check"), ("data nope", "data"), ("nope", "")],
)
def test_a_wrong_option_names_the_help_of_its_command(medfathom: Cli, arguments: str, typed: str) -> None:
    code, _, said = medfathom(*arguments.split())
    assert code == 2
    assert said.rstrip().endswith(f"medfathom {typed} --help`.".replace("  ", " "))


@pytest.mark.usefixtures("studied")
@pytest.mark.parametrize("arguments", [["validate", "demo"], ["show", "demo"]])
@pytest.mark.large
def test_light_commands_do_not_import_what_they_do_not_use(workdir: Path, arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = ['torch', 'torchvision', 'timm', 'ray', 'sklearn', 'matplotlib']\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules], file=sys.stderr))\n"
        f"sys.argv = ['medfathom', *{arguments!r}]\n"
        "from medfathom.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_data_check_and_prepare(medfathom: Cli, workdir: Path) -> None:
    small = ["--set", "dataset.n_train=30", "--set", "dataset.n_val=15", "--set", "dataset.n_test=15"]
    code, text, _ = medfathom("data", "prepare", "demo", *small, "--json")
    facts = json.loads(text)
    assert code == 0
    assert facts["sizes"] == {"train": 30, "val": 15, "test": 15}
    code, text, _ = medfathom("data", "check", "demo", *small, "--json")
    report = json.loads(text)
    assert code == (0 if report["ok"] else 1)
    assert report["fingerprint"] == facts["fingerprint"]
    assert "<html" in (workdir / "storage" / "reports" / "demo-data.html").read_text()
    code, out, _ = medfathom("data", "check", "demo", *small)
    assert "Page: storage/reports/demo-data.html" in out


@pytest.mark.parametrize("command", [("data", "prepare"), ("data", "check"), ("run",)], ids=" ".join)
def test_a_storage_that_cannot_be_written_is_one_line(
    medfathom: Cli, workdir: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (workdir / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("MEDFATHOM_STORAGE", str(workdir / "taken"))
    code, _, err = medfathom(*command, "demo")
    assert code == 1
    *_, last = err.splitlines()
    assert last.startswith(f"medfathom: {workdir / 'taken'}")
    assert last.endswith("check that this path is as it should be")
    assert "Traceback" not in err


def test_validate_needs_no_storage(medfathom: Cli, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("MEDFATHOM_STORAGE", str(workdir / "taken"))
    code, out, err = medfathom("validate", "demo")
    assert (code, "Traceback" in out + err) == (0, False)


def test_a_full_disk_is_one_line() -> None:
    assert of_a_file(OSError(errno.ENOSPC, "No space left on device", "model/card.md")) == (
        "model/card.md: No space left on device; make room on that disk, then give the same command again"
    )
    assert of_a_file(OSError("it cannot be reached")) == "it cannot be reached"

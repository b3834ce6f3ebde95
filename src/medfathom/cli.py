"""The commands. Heavy things are imported only when a command needs them."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from medfathom.errors import InputError, MedfathomError

if TYPE_CHECKING:
    from rich.console import Console

    from medfathom.study.watcher import Watcher

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="medfathom",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Which pretrained network should I train on my medical images, how much of it should I unfreeze, "
        "and does a bigger one even help?\n\n"
        "Begin with `medfathom run demo`, look with `medfathom dashboard`; then `medfathom confirm demo`, "
        "`medfathom analyze demo`, `medfathom export demo --out model`, `medfathom predict model IMAGES`."
    ),
)
list_app = typer.Typer(help="List what can be named: studies, architectures, pieces of search/.")
app.add_typer(list_app, name="list")
data_app = typer.Typer(help="Prepare a study's data set, and check it for what would invalidate a result.")
app.add_typer(data_app, name="data")

StudyArgument = Annotated[str, typer.Argument(help="A TOML file, or the name of one in study_defs/.")]
StorageOption = Annotated[
    str | None, typer.Option(help="Optuna storage URL; default: SQLite, storage/medfathom.db.", metavar="URL")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a key of the definition: `--set budget.trials=8`.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Entry point: exit 0 done, 1 failed while running, 2 bad input; errors are one line without --debug."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"] or ["--help"]
    try:
        sys.exit(app(args=arguments, prog_name="medfathom", standalone_mode=False) or 0)
    except MedfathomError as error:
        _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        _fail(f"{error.format_message()} See `medfathom --help`.", EXIT_BAD_INPUT, debug)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print("medfathom: " + " ".join(message.split()), file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console()


def _watcher() -> Watcher:
    """For people: a live table in a terminal, lines elsewhere."""
    from medfathom.terminal.progress import LiveTable, PlainLines  # noqa: PLC0415

    console = _console()
    return LiveTable(console) if console.is_terminal else PlainLines(console)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


@app.command()
def run(
    study: StudyArgument,
    storage: StorageOption = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster.", metavar="RAY")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials in the study, earlier runs' counted.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End this run after so many minutes.")] = None,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; the old study stays, renamed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a live table.")] = False,
) -> None:
    """Run a study, or go on with it where an earlier run stopped."""
    from medfathom.definitions.load import load_definition  # noqa: PLC0415
    from medfathom.terminal.progress import JsonLines  # noqa: PLC0415

    overrides = list(set_ or [])
    overrides += [f"budget.trials={trials}"] if trials is not None else []
    overrides += [f"budget.minutes={minutes!r}"] if minutes is not None else []
    config = load_definition(study, overrides)
    watcher = JsonLines(sys.stdout) if as_json else _watcher()
    from medfathom.run import run_study  # noqa: PLC0415
    from medfathom.urls import shown  # noqa: PLC0415

    outcome = run_study(config, storage=storage, address=address, fresh=fresh, watcher=watcher)
    # Logs keep what is printed: no password of the storage, nor of a `resources.checkpoint_url`.
    told = [shown(o) if "://" in o else o for o in overrides]
    again = ["medfathom", "run", study, *(word for o in told for word in ("--set", o))]
    again += ["--storage", shown(storage)] if storage else []
    if outcome.halted:
        watcher.note(f"Ended early: {outcome.halted}. To go on: {shlex.join(again)}")
        if outcome.halted == "interrupted":
            sys.exit(EXIT_INTERRUPTED)
    else:
        watcher.note(
            f"Next: medfathom show {config.name} · medfathom dashboard · medfathom confirm {config.name}"
        )
    if outcome.counts.complete == 0 and not outcome.halted:
        raise MedfathomError(f"study {config.name!r}: no trial completed; see `medfathom show {config.name}`")


@app.command()
def validate(
    studies: Annotated[
        list[str], typer.Argument(help="TOML files, or names in study_defs/.", metavar="STUDY …")
    ],
    set_: SetOption = None,
) -> None:
    """Make every check that `run` makes before it spends anything; run nothing."""
    from medfathom.definitions.grid import trials_of  # noqa: PLC0415
    from medfathom.definitions.load import load_definition  # noqa: PLC0415
    from medfathom.validate import check_definition, check_source  # noqa: PLC0415

    failures = 0
    for name in studies:
        try:
            config = load_definition(name, set_ or [])
            notes = check_definition(config)
            check_source(config)
        except InputError as error:
            failures += 1
            print(f"medfathom: {error}", file=sys.stderr)  # noqa: T201
        else:
            strata = len(config.space.strata())
            print(f"{name}: valid; {strata} strata, {trials_of(config)} trials")  # noqa: T201
            print(*(f"  {note}\n" for note in notes), sep="", end="")  # noqa: T201
    if failures:
        sys.exit(EXIT_BAD_INPUT)


@app.command()
def plan(study: StudyArgument, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Measure what every kind of trial takes on this machine, and forecast the study.

    A short trial of each architecture and unfreeze depth runs on a few of the images; nothing is stored.
    """
    from medfathom.definitions.load import load_definition  # noqa: PLC0415

    config = load_definition(study, set_ or [])
    from medfathom.plan import plan_study  # noqa: PLC0415
    from medfathom.terminal.forecast import forecast_text  # noqa: PLC0415
    from medfathom.validate import check_definition  # noqa: PLC0415

    check_definition(config)
    console = _console()
    if as_json:
        forecast = plan_study(config)
        _print_json(forecast)
    else:
        with console.status("") as status:
            forecast = plan_study(config, status.update)
        console.print(forecast_text(forecast))
    if any("failure" in row for row in forecast["kinds"]):
        sys.exit(EXIT_FAILED)


@app.command()
def show(study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Show a study: its state, best trials, strata, failures."""
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import brief_trials, read_study  # noqa: PLC0415
    from medfathom.study.summary import SHOWN, summarize_study  # noqa: PLC0415
    from medfathom.terminal.show import study_text  # noqa: PLC0415

    url = storage or default_url()
    found = read_study(url, _study_name(study))
    summary = summarize_study(found, brief_trials(url, found, SHOWN))
    if as_json:
        _print_json(summary)
    else:
        _console().print(study_text(summary))


def _study_name(study: str) -> str:
    """The study's name in the storage: what the definition says when a file is given."""
    if study.endswith(".toml"):
        from medfathom.definitions.load import load_definition  # noqa: PLC0415

        return load_definition(study).name
    return study


@app.command()
def dashboard(
    storage: StorageOption = None,
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let the page change and delete studies (there is no login).")
    ] = False,
) -> None:
    """Serve optuna-dashboard on the storage, to this machine only."""
    from medfathom.dashboard.server import serve  # noqa: PLC0415
    from medfathom.study.connection import default_url  # noqa: PLC0415

    serve(storage or default_url(), port, writable=writable, say=_console().print)


@app.command()
def confirm(
    study: StudyArgument,
    seeds: Annotated[int, typer.Option(help="How often each configuration is trained.", min=1)] = 3,
    top: Annotated[
        int | None, typer.Option(help="Only so many strata, the best by validation; default: all.", min=1)
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="Also this trial of the search; may be given again.")
    ] = None,
    storage: StorageOption = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster.", metavar="RAY")] = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain the best of every stratum with several seeds, and judge it on the test split.

    Full length, no early stopping; the test split is opened for this alone, and the study remembers it. The
    same command again goes on where it was interrupted.
    """
    from medfathom.confirm import confirm_study  # noqa: PLC0415
    from medfathom.study.watcher import Watcher  # noqa: PLC0415
    from medfathom.terminal.confirmation import confirmation_text  # noqa: PLC0415

    name = _study_name(study)
    done = confirm_study(
        name,
        seeds=seeds,
        top=top,
        trials=trial or [],
        storage=storage,
        address=address,
        watcher=Watcher() if as_json else _watcher(),
    )
    if as_json:
        _print_json(done.summary.to_dict())
    else:
        _console().print(confirmation_text(done.summary))
    if done.halted:
        print(f"Ended early: {done.halted}. The same command goes on.", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INTERRUPTED if done.halted == "interrupted" else EXIT_FAILED)
    if done.summary.failures:
        sys.exit(EXIT_FAILED)


@app.command()
def analyze(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Studies in the storage.", metavar="[STUDY …]")
    ] = None,
    table: Annotated[
        list[Path] | None, typer.Option(help="A CSV file of results; may be given again.", metavar="FILE.csv")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="A table's column under our name: `--map auc=test_auc`.", metavar="A=B"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with this value: `--where scheme=linear`.", metavar="COLUMN=VALUE"),
    ] = None,
    percent: Annotated[bool, typer.Option("--percent", help="The tables' AUCs are in per cent.")] = False,
    storage: StorageOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; default: storage/reports/NAME.", metavar="DIR")
    ] = None,
    exploratory: Annotated[
        bool, typer.Option("--exploratory", help="Use the search trials, not what `confirm` found.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Test whether depth or parameter count predicts AUC, modality by modality.

    Studies bring what `confirm` found on their test splits; several studies and tables make one report.
    """
    from medfathom.answer import analyze_all  # noqa: PLC0415
    from medfathom.terminal.analysis import analysis_text  # noqa: PLC0415

    analysis, folder = analyze_all(
        studies or [],
        table or [],
        storage=storage,
        maps=_pairs("--map", map_),
        wheres=_pairs("--where", where),
        percent=percent,
        exploratory=exploratory,
        out=out,
    )
    if as_json:
        _print_json(analysis.to_dict())
    else:
        _console().print(analysis_text(analysis, folder))


@app.command()
def export(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(help="The model folder to be made.", metavar="DIR")],
    within: Annotated[
        float | None, typer.Argument(help="With smallest-within: the AUC that may be lost.", min=0)
    ] = None,
    trial: Annotated[
        str,
        typer.Option(help="best, the number of a search trial, or smallest-within", metavar="WHICH"),
    ] = "best",
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write it as ONNX.")] = True,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a confirmed model as a folder: weights, preprocessing, thresholds, calibration, card, ONNX.

    `--trial best` is the best by validation AUC; `--trial smallest-within 0.005` has the fewest parameters of
    those that lose at most so much AUC; `--trial 7` is the seventh search trial, once it was confirmed.
    """
    from medfathom.export import WITHIN, export_model  # noqa: PLC0415
    from medfathom.terminal.confirmation import export_text  # noqa: PLC0415

    if within is not None and trial != "smallest-within":
        raise InputError(f"export {study} {within:g}: a margin goes with --trial smallest-within")
    done = export_model(
        _study_name(study),
        out,
        trial=trial,
        within=WITHIN if within is None else within,
        storage=storage,
        onnx=onnx,
    )
    if as_json:
        _print_json(done.to_dict())
    else:
        _console().print(export_text(done), highlight=False, soft_wrap=True)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="What `export` wrote.", metavar="FOLDER")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGES…")],
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file instead.", metavar="FILE")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, …")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Class probabilities of images by an exported model.

    Exit 1 where some images could not be read: they are named, and the others predicted.
    """
    from medfathom.exported.model import predict_files  # noqa: PLC0415
    from medfathom.terminal.predictions import predictions_text, write_csv  # noqa: PLC0415

    found = predict_files(model, images, device)
    if csv is not None:
        write_csv(found, csv)
    if as_json:
        _print_json({"images": found.rows(), "unreadable": found.unreadable, "remarks": found.remarks})
    elif csv is None:
        _console().print(predictions_text(found))
    for remark in found.remarks:
        print(f"medfathom: {remark}", file=sys.stderr)  # noqa: T201
    for name, reason in found.unreadable.items():
        print(f"medfathom: {name}: {reason}; skipped", file=sys.stderr)  # noqa: T201
    if found.unreadable:
        sys.exit(EXIT_FAILED)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


@data_app.command("check")
def data_check(
    study: StudyArgument,
    set_: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The page; default: storage/reports/NAME-data.html.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for copies, patients in two splits, label conflicts, blank images, shortcuts.

    Exit 0: nothing that invalidates a study; 1: an error among the findings; 2: the data cannot be used.
    """
    from medfathom.definitions.load import load_definition  # noqa: PLC0415
    from medfathom.terminal.data import check_text, check_with_page  # noqa: PLC0415

    report, page = check_with_page(load_definition(study, set_ or []), out, show_progress=not as_json)
    if as_json:
        _print_json(report.to_dict())
    else:
        _console().print(check_text(report, page))
    sys.exit(report.exit_code)


@data_app.command("prepare")
def data_prepare(study: StudyArgument, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Decode a study's data set once into a memory map, as `run` would."""
    from medfathom.definitions.load import load_definition  # noqa: PLC0415
    from medfathom.terminal.data import prepare_now  # noqa: PLC0415

    facts = prepare_now(load_definition(study, set_ or []), show_progress=not as_json)
    if as_json:
        _print_json(facts)
    else:
        _console().print("\n".join(f"{key}: {value}" for key, value in facts.items()), highlight=False)


@data_app.command("shift")
def data_shift(
    study: StudyArgument,
    set_: SetOption = None,
    architecture: Annotated[
        list[str] | None, typer.Option(help="One of the study's; may be given again. Default: all.")
    ] = None,
    images: Annotated[int, typer.Option(help="Training images looked at.", min=2)] = 256,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture; default: storage/reports/NAME-shift.svg.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how far the data are from what each pretrained network's batch-norm layers remember."""
    from medfathom.definitions.load import load_definition  # noqa: PLC0415
    from medfathom.shift import measure_shift  # noqa: PLC0415
    from medfathom.terminal.shift import shift_text  # noqa: PLC0415

    config = load_definition(study, set_ or [])
    say = _console().print if not as_json else lambda _: None
    found, picture = measure_shift(config, architecture or [], n_images=images, out=out, say=say)
    if as_json:
        _print_json([shift.to_dict() for shift in found])
    else:
        _console().print(shift_text(found, picture))


@list_app.command("studies")
def list_studies(as_json: JsonOption = False) -> None:
    """Study definitions: in ./study_defs, and shipped."""
    from medfathom.terminal.listing import print_definitions  # noqa: PLC0415

    print_definitions("study_defs", as_json)


@list_app.command("architectures")
def list_architectures(
    pattern: Annotated[str, typer.Argument(help="Only names (or families) with this in them.")] = "",
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    max_params: Annotated[
        float | None, typer.Option(help="Only with at most so many million parameters.", metavar="MILLIONS")
    ] = None,
    sort: Annotated[str, typer.Option(help="name, family, n_params, depth or macs.")] = "family",
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Architectures of the catalog: size, depth, cost. Any other timm model too, by its full name."""
    from medfathom.terminal.listing import print_architectures  # noqa: PLC0415

    print_architectures(
        pattern, family=family, max_params=max_params, sort=sort, descending=descending, as_json=as_json
    )


@list_app.command("datasets")
def list_datasets(as_json: JsonOption = False) -> None:
    """Data sets that study definitions name: source, modality, licence."""
    from medfathom.terminal.listing import print_datasets  # noqa: PLC0415

    print_datasets(as_json)


def _add_piece(kind: str) -> None:
    @list_app.command(kind, help=f"Pieces of search/{kind}/: in the working folder, and shipped.")
    def _list(as_json: JsonOption = False) -> None:
        from medfathom.terminal.listing import print_definitions  # noqa: PLC0415

        print_definitions(f"search/{kind}", as_json)


for _kind in ("spaces", "samplers", "schedulers", "budgets"):
    _add_piece(_kind)

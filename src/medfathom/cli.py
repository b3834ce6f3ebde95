"""The commands: options and exit codes. What a command does and prints is in `medfathom.terminal`.

`data` and `list` are in `cli_data`; `export`, `predict` and `evaluate` in `cli_models`; `submit`, `dashboard`
and `export-runs` in `cli_elsewhere`. Heavy things are imported only when a command needs them: each body
imports its own.
"""

from __future__ import annotations

import gc
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from medfathom.cli_data import data_app, list_app
from medfathom.cli_elsewhere import elsewhere
from medfathom.cli_models import add_commands
from medfathom.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, MedfathomError, of_a_file
from medfathom.terminal.options import (
    AddressOption,
    AnalysisOption,
    BestByOption,
    ExploratoryOption,
    FixedOption,
    JsonOption,
    MapOption,
    MarginOption,
    ModalityOption,
    NameOption,
    PercentOption,
    PilotArgument,
    PlanSetOption,
    PredictorOption,
    RunStudyArgument,
    SetOption,
    SettingOption,
    StorageOption,
    TableOption,
    WhereOption,
    WideOption,
    complete_run_study,
    complete_study,
    complete_trial,
    example,
)
from medfathom.text import ADDRESS_GIVEN, QUIET, STORAGE_GIVEN, command

COLLECTED_AFTER = 50_000
"""So many new objects, in place of Python's 700, let it look for circles among them. A study of 20,000 trials
makes a million at once, and none of them is garbage: `show` takes a sixth less time."""
BEGIN = ("run demo", "dashboard", "confirm demo", "analyze demo", "export demo --out model", "init FOLDER")


def _print_version(asked: bool) -> None:
    if asked:
        from medfathom import __version__  # noqa: PLC0415

        print(f"medfathom {__version__}")  # noqa: T201
        raise typer.Exit


app = typer.Typer(
    name="medfathom",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Which pretrained network should I train on my medical images, how much of it should I unfreeze, "
        "and does a bigger one even help?\n\nBegin with:\n\n"
        + "".join(f"- `{command(*words.split())}`\n" for words in BEGIN)
    ),
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no notes; works after a command too.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from; works after a command too.")
    ] = False,
) -> None:
    """`main` takes quiet and debug away before this is called, so that they may stand anywhere."""


app.add_typer(data_app, name="data")
app.add_typer(list_app, name="list")
app.add_typer(elsewhere)


def main() -> None:
    """Entry point: exit 0 done, 1 failed while running, 2 bad input; errors are one line without --debug."""
    gc.set_threshold(COLLECTED_AFTER)
    STORAGE_GIVEN.set(None)
    ADDRESS_GIVEN.set(None)
    debug, quiet = "--debug" in sys.argv, bool({"-q", "--quiet"} & set(sys.argv))
    QUIET.set(quiet)
    arguments = [a for a in sys.argv[1:] if a not in ("--debug", "-q", "--quiet")] or ["--help"]
    try:
        sys.exit(app(args=arguments, prog_name="medfathom", standalone_mode=False) or 0)
    except MedfathomError as error:
        _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        _fail(f"{error.format_message().rstrip('.')}. See `{_help_of(error)}`.", EXIT_BAD_INPUT, debug)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        _fail(of_a_file(error), EXIT_FAILED, debug)


def _help_of(error: TyperException) -> str:
    """The help of the command that was typed; the program's own where none was."""
    context = getattr(error, "ctx", None)
    words = context.command_path.split()[1:] if context is not None else []
    return command(*words, "--help")


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print("medfathom: " + " ".join(message.split()), file=sys.stderr)  # noqa: T201
    sys.exit(code)


@app.command(epilog=example("samples my-samples"))
def samples(folder: Annotated[Path, typer.Argument(help="A new folder.", metavar="DIR")]) -> None:
    """Write sample images and a table of published results, to try the commands with."""
    from medfathom.terminal.samples import print_samples  # noqa: PLC0415

    print_samples(folder)


@app.command(epilog=example("init scans --modality OCT"))
def init(
    place: Annotated[
        Path,
        typer.Argument(
            help="A folder of class folders, a table of images, an npz file, HDF5 files.", metavar="DATA"
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The definition to write; default: NAME.toml here.", metavar="FILE")
    ] = None,
    modality: ModalityOption = None,
    label: Annotated[
        str | None, typer.Option(help="The column of a table that is the label.", metavar="COLUMN")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at your data and write a definition for a first study, with comments on what was guessed."""
    from medfathom.terminal.init import print_definition_written  # noqa: PLC0415

    print_definition_written(place, out=out, modality=modality, label=label, as_json=as_json)


@app.command(epilog=example("run demo --trials 8"))
def run(
    study: Annotated[
        str,
        typer.Argument(
            help="A TOML file, the name of one in study_defs/, or a folder or table of images (then a "
            "definition is written first, as `init` does).",
            autocompletion=complete_study,
        ),
    ],
    storage: StorageOption = None,
    address: AddressOption = None,
    trials: Annotated[int | None, typer.Option(help="Total number of trials, earlier runs included.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End this run after this many minutes.")] = None,
    set_: SetOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a new study; the old one stays under another name.")
    ] = False,
    modality: ModalityOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a live table.")] = False,
) -> int:
    """Run a study, or continue one that an earlier run left unfinished."""
    from medfathom.terminal.run import run_and_tell  # noqa: PLC0415

    return run_and_tell(
        study,
        set_ or [],
        trials=trials,
        minutes=minutes,
        storage=storage,
        address=address,
        fresh=fresh,
        modality=modality,
        as_json=as_json,
    )


@app.command(epilog=example("validate demo my.toml"))
def validate(
    studies: Annotated[
        list[str],
        typer.Argument(
            help="TOML files, or names in study_defs/.", metavar="STUDY …", autocompletion=complete_study
        ),
    ],
    storage: StorageOption = None,
    set_: SetOption = None,
) -> int:
    """Make all checks that `run` makes before it reads images. `data check` finds bad images and copies."""
    from medfathom.terminal.validation import print_validity  # noqa: PLC0415

    return print_validity(studies, set_ or [], storage)


@app.command(epilog=example("plan demo --json"))
def plan(
    study: PilotArgument = None,
    seconds: Annotated[
        float,
        typer.Option(
            help="Measure for this long; kinds of trials that were not measured are estimated.", min=1
        ),
    ] = 120,
    set_: PlanSetOption = None,
    analysis: AnalysisOption = False,
    table: TableOption = None,
    map_: MapOption = None,
    where: WhereOption = None,
    name: NameOption = None,
    setting: SettingOption = None,
    best_by: BestByOption = None,
    wide: WideOption = None,
    margin: MarginOption = None,
    percent: PercentOption = False,
    storage: StorageOption = None,
    exploratory: ExploratoryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Measure what every kind of trial takes on this machine, and forecast the study.

    A short trial of each architecture and unfreeze depth runs on a few of the images; nothing is stored.
    `--analysis` plans from a pilot (a study, tables) how many networks and data sets an analysis needs.
    """
    from medfathom.terminal.forecast import print_forecast  # noqa: PLC0415
    from medfathom.terminal.planning import TableOptions, plan_analysis  # noqa: PLC0415

    pairs = TableOptions(
        map_ or [], where or [], set_ or [], name or [], setting or [], percent, best_by, wide
    )
    if not analysis:
        study = pairs.none_given(study, table)
        return print_forecast(study, set_ or [], seconds=seconds, storage=storage, as_json=as_json)
    return plan_analysis(study, table or [], pairs, margin, storage, exploratory=exploratory, as_json=as_json)


@app.command(epilog=example("show demo"))
def show(
    study: RunStudyArgument,
    definition: Annotated[
        bool, typer.Option("--definition", help="Print the complete definition as TOML, with all defaults.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study: its state, best trials, strata, failures."""
    if definition:
        from medfathom.terminal.definition import print_definition  # noqa: PLC0415

        return print_definition(study, storage, as_json=as_json)
    from medfathom.terminal.show import print_study  # noqa: PLC0415

    return print_study(study, storage, as_json=as_json)


@app.command(epilog=example("confirm demo --top 4 --seeds 3"))
def confirm(
    study: RunStudyArgument,
    seeds: Annotated[int, typer.Option(help="Number of seeds for each configuration.", min=1)] = 3,
    top: Annotated[
        int | None,
        typer.Option(help="Confirm only this many strata, best validation AUC first; default: all.", min=1),
    ] = None,
    trial: Annotated[
        list[int] | None,
        typer.Option(
            help="Also confirm this search trial (numbers begin at 0); can be repeated.",
            autocompletion=complete_trial,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="Subgroups of the test split, by columns in `[dataset] keep`: sex,age:10."),
    ] = "",
    ensemble: Annotated[
        int | None,
        typer.Option(help="Also average at most this many models, chosen by validation log loss.", min=2),
    ] = None,
    keep_ensemble: Annotated[
        bool, typer.Option("--keep-ensemble", help="Let `export` use the ensemble whatever its gain.")
    ] = False,
    views: Annotated[
        bool,
        typer.Option("--views", help="Also average the best model over flips of each image (OCT, WSI)."),
    ] = False,
    keep_views: Annotated[
        bool, typer.Option("--keep-views", help="Let `export` use these flips whatever their gain.")
    ] = False,
    storage: StorageOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train the best configuration of each stratum again with several seeds, and judge it on the test split.

    It trains at full length, without early stopping. Only this command opens the test split, and the study
    records it. If it was interrupted, the same command continues.
    """
    from medfathom.terminal.confirmation import confirm_and_tell  # noqa: PLC0415

    return confirm_and_tell(
        study,
        seeds=seeds,
        top=top,
        trials=trial or [],
        by=by,
        ensemble=ensemble,
        keep_ensemble=keep_ensemble,
        views=views,
        keep_views=keep_views,
        storage=storage,
        address=address,
        as_json=as_json,
    )


@app.command(epilog=example("analyze --table results.csv --map auc=test_auc"))
def analyze(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            help="Studies in the storage.", metavar="[STUDY …]", autocompletion=complete_run_study
        ),
    ] = None,
    table: TableOption = None,
    map_: MapOption = None,
    where: WhereOption = None,
    fixed: FixedOption = None,
    name: NameOption = None,
    setting: SettingOption = None,
    best_by: BestByOption = None,
    wide: WideOption = None,
    margin: MarginOption = None,
    predictor: PredictorOption = None,
    percent: PercentOption = False,
    storage: StorageOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report; default: storage/reports/NAME[-exploratory].", metavar="DIR"
        ),
    ] = None,
    exploratory: ExploratoryOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test whether depth or parameter count predicts AUC, modality by modality.

    Of studies, it uses the confirmed results on the test split. Several studies and tables make one report.
    """
    from medfathom.terminal.analysis import print_analysis  # noqa: PLC0415

    print_analysis(
        studies or [],
        table or [],
        storage=storage,
        maps=map_ or [],
        wheres=where or [],
        fixed=fixed or [],
        names=name or [],
        settings=setting or [],
        best_by=best_by,
        wide=wide,
        margin=margin,
        predictors=predictor or [],
        percent=percent,
        exploratory=exploratory,
        out=out,
        as_json=as_json,
    )


add_commands(app)

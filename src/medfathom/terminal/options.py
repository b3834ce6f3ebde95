"""Options that several commands have, and those of `analyze` about tables; imports typer only."""

from pathlib import Path
from typing import Annotated

import typer

from medfathom.text import ADDRESS_GIVEN, STORAGE_GIVEN

PIECES = ("space", "sampler", "scheduler", "budget")
"""Keys of a definition that may name a piece of search/."""


def storage_given(url: str | None) -> str | None:
    """What the program tells the user to run next names the same storage."""
    STORAGE_GIVEN.set(url)
    return url


def address_given(address: str | None) -> str | None:
    """What the program tells the user to run next uses the same cluster."""
    ADDRESS_GIVEN.set(address)
    return address


def example(command: str) -> str:
    """The last line of a command's help."""
    return f"**Example:** `medfathom {command}`"


def complete_study(begun: str) -> list[str]:
    """Names of definitions, and TOML files here."""
    from medfathom.definitions.load import names  # noqa: PLC0415

    files = (str(path) for path in Path().glob("*.toml"))
    return sorted(name for name in (*names("study_defs"), *files) if name.startswith(begun))


def complete_run_study(begun: str) -> list[str]:
    """Studies in the storage at hand, then as `complete_study`."""
    return list(dict.fromkeys([*_in_storage(begun), *complete_study(begun)]))


def _in_storage(begun: str) -> list[str]:
    from medfathom.errors import MedfathomError  # noqa: PLC0415
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import read_studies  # noqa: PLC0415

    try:
        found = read_studies(default_url())
    except MedfathomError:  # none was run here yet
        return []
    return sorted(study.study_name for study in found if study.study_name.startswith(begun))


def complete_trial(context: typer.Context, begun: str) -> list[str]:
    """Numbers of the complete trials of the study that was typed."""
    from medfathom.definitions.load import study_name  # noqa: PLC0415
    from medfathom.errors import MedfathomError  # noqa: PLC0415
    from medfathom.study.choice import completed, rule_of  # noqa: PLC0415
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import read_study  # noqa: PLC0415

    try:
        study = read_study(default_url(), study_name(context.params.get("study") or ""))
    except MedfathomError:
        return []
    trials = completed(study.get_trials(deepcopy=False), rule_of(study))
    return [str(trial.number) for trial in trials if str(trial.number).startswith(begun)]


def complete_set(begun: str) -> list[str]:
    """Pieces of search/, by the key that takes them: `space=lite`."""
    from medfathom.definitions.load import names  # noqa: PLC0415

    pieces = (f"{key}={name}" for key in PIECES for name in names(f"search/{key}s"))
    return sorted(piece for piece in pieces if piece.startswith(begun))


def complete_architecture(begun: str) -> list[str]:
    """Names of the catalog."""
    from medfathom.models.facts import shipped  # noqa: PLC0415

    return sorted(facts.name for facts in shipped() if facts.name.startswith(begun))


StudyArgument = Annotated[
    str,
    typer.Argument(help="A TOML file, or the name of one in study_defs/.", autocompletion=complete_study),
]
RunStudyArgument = Annotated[
    str,
    typer.Argument(
        help="A study that was run: its name, or its TOML file.", autocompletion=complete_run_study
    ),
]
PilotArgument = Annotated[
    str | None,
    typer.Argument(
        help="A TOML file, or the name of one in study_defs/.",
        metavar="[STUDY]",
        autocompletion=complete_study,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        help="Optuna storage URL; default: SQLite, storage/medfathom.db.",
        metavar="URL",
        callback=storage_given,
    ),
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster.", metavar="RAY", callback=address_given)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a key of the definition: `--set budget.trials=8`.",
        metavar="KEY=VALUE",
        autocompletion=complete_set,
    ),
]
PlanSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a key of the definition: `--set budget.trials=8`; with `--analysis --table`: a column "
        "for all rows, `--set modality=CXR`.",
        metavar="KEY=VALUE",
    ),
]
ModalityOption = Annotated[
    str | None,
    typer.Option(
        help="Modality of your data: CXR, OCT, WSI or another word; default: guessed.", metavar="WORD"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

TableOption = Annotated[
    list[Path] | None,
    typer.Option("--table", help="A CSV file of results; can be repeated.", metavar="FILE.csv"),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", help="The table's name for a column: `--map auc=test_auc`.", metavar="A=B"),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", help="Use only rows with this value: `--where scheme=linear`.", metavar="COLUMN=VALUE"
    ),
]
PercentOption = Annotated[bool, typer.Option("--percent", help="The tables' AUCs are in per cent.")]
ExploratoryOption = Annotated[
    bool, typer.Option("--exploratory", help="Use search trials instead of confirmed results.")
]
AnalysisOption = Annotated[
    bool,
    typer.Option(
        "--analysis",
        help="Plan an analysis instead: how many architectures, data sets and seeds, from a study or tables.",
    ),
]

FixedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A column for all rows, `--set modality=CXR`, or by data set, `--set modality=a:CXR,b:OCT`, "
        "or by architecture, `--set n_params=uni:303M,gigapath:1.1B`; `--set n_params=` leaves it out.",
        metavar="COLUMN=VALUE",
    ),
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(
        help="The catalog's name for a network of the table: `--name densenet=densenet121`.", metavar="A=B"
    ),
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Compare only rows with the same value of this column, for example resolution.", metavar="COLUMN"
    ),
]
BestByOption = Annotated[
    str | None,
    typer.Option(
        help="Of the runs of a search, use only the best by this column (-COLUMN: the lowest is best).",
        metavar="[-]COLUMN",
    ),
]
WideOption = Annotated[
    str | None,
    typer.Option(
        help="Columns that hold the AUCs of one data set each: `--wide bach,crc`.", metavar="COLUMN,…"
    ),
]
MarginOption = Annotated[
    float | None,
    typer.Option(
        help="Differences in AUC up to this, over the range of networks, do not matter; default: 0.01.",
        metavar="AUC",
    ),
]
PredictorOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Also test this predictor: `macs`, `imagenet_top1`, `year`, `attention`, any column of numbers "
        "(`width:log2`), or one value against all others (`family=resnet`).",
        metavar="COLUMN[:SCALE]",
    ),
]

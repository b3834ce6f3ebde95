"""The commands below `data` and `list`: options and exit codes, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfathom.terminal.options import (
    JsonOption,
    SetOption,
    StudyArgument,
    complete_architecture,
    complete_study,
    example,
)

list_app = typer.Typer(help="List studies, architectures, data sets, and pieces of search/.")
data_app = typer.Typer(help="Prepare a study's data set, and check it for what would invalidate a result.")


@data_app.command("check", epilog=example("data check demo --out page.html"))
def data_check(
    study: StudyArgument,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            help="More data sets; then only images that are in two of the sets are searched.",
            metavar="[OTHER]…",
            autocompletion=complete_study,
        ),
    ] = None,
    set_: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML page to write; default: storage/reports/NAME-data.html.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Search a data set for copies, patients in two splits, label conflicts, blank images and shortcuts.

    With several data sets, it finds images that are in two of them, also cropped, squashed or scaled.

    Exit 0: nothing that invalidates a study; 1: an error among the findings; 2: the data cannot be used.
    """
    from medfathom.terminal.data import print_check, print_shared  # noqa: PLC0415

    if others:
        return print_shared([study, *others], set_ or [], as_json=as_json)
    return print_check(study, set_ or [], page=out, as_json=as_json)


@data_app.command("prepare", epilog=example("data prepare demo --samples scans"))
def data_prepare(
    study: StudyArgument,
    set_: SetOption = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Also write 12 validation images as PNG into this folder.", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decode a study's data set once into a memory map. `run` does it too, if it has not been done."""
    from medfathom.terminal.data import print_prepared  # noqa: PLC0415

    print_prepared(study, set_ or [], samples=samples, as_json=as_json)


@data_app.command("shift", epilog=example("data shift demo --images 64"))
def data_shift(
    study: StudyArgument,
    set_: SetOption = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option(
            help="An architecture of the study; can be repeated. Default: all.",
            autocompletion=complete_architecture,
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="Number of training images to measure.", min=2)] = 256,
    out: Annotated[
        Path | None,
        typer.Option(help="Picture to write; default: storage/reports/NAME-shift.svg.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the distance of the images from the batch-norm statistics of each pretrained network."""
    from medfathom.terminal.shift import print_shift  # noqa: PLC0415

    print_shift(
        study, set_ or [], architectures=architecture or [], n_images=images, picture=out, as_json=as_json
    )


@list_app.command("studies", epilog=example("list studies"))
def list_studies(as_json: JsonOption = False) -> None:
    """List study definitions: those in ./study_defs, and those shipped."""
    from medfathom.terminal.listing import print_definitions  # noqa: PLC0415

    print_definitions("study_defs", as_json)


@list_app.command("architectures", epilog=example("list architectures resnet --max-params 30"))
def list_architectures(
    pattern: Annotated[
        str,
        typer.Argument(
            help="List only names (or families) that contain this.", autocompletion=complete_architecture
        ),
    ] = "",
    family: Annotated[str | None, typer.Option(help="List only this family.")] = None,
    max_params: Annotated[
        float | None,
        typer.Option(
            help="List only networks with at most this many million parameters.", metavar="MILLIONS"
        ),
    ] = None,
    sort: Annotated[str, typer.Option(help="Sort by name, family, n_params, depth or macs.")] = "family",
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the architectures of the catalog: size, depth, cost. Other timm models work by their full name."""
    from medfathom.terminal.listing import print_architectures  # noqa: PLC0415

    print_architectures(
        pattern, family=family, max_params=max_params, sort=sort, descending=descending, as_json=as_json
    )


@list_app.command("datasets", epilog=example("list datasets"))
def list_datasets(as_json: JsonOption = False) -> None:
    """List the data sets of the study definitions: source, modality, licence."""
    from medfathom.terminal.listing import print_datasets  # noqa: PLC0415

    print_datasets(as_json)


def complete_schema(begun: str) -> list[str]:
    """Commands that have `--json`."""
    from medfathom.terminal.schemas import PRINTED  # noqa: PLC0415

    return [name for name in PRINTED if name.startswith(begun)]


@list_app.command("schemas", epilog=example("list schemas confirm"))
def list_schemas(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Print the JSON schema of this command.", metavar="[COMMAND]", autocompletion=complete_schema
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the commands with `--json` and the keys that they print, or print the JSON schema of one."""
    from medfathom.terminal.schemas import print_schemas  # noqa: PLC0415

    print_schemas(" ".join(words) if words else None, as_json=as_json)


def _add_piece(kind: str) -> None:
    @list_app.command(
        kind,
        help=f"List the pieces of search/{kind}/: those in the working folder, and those shipped.",
        epilog=example(f"list {kind}"),
    )
    def _list(as_json: JsonOption = False) -> None:
        from medfathom.terminal.listing import print_definitions  # noqa: PLC0415

        print_definitions(f"search/{kind}", as_json)


for _kind in ("spaces", "samplers", "schedulers", "budgets"):
    _add_piece(_kind)

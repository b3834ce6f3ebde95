"""Options of `analyze` about tables and predictors; imports typer only."""

from typing import Annotated

import typer

FixedOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A column for all rows: `--set modality=CXR`.", metavar="COLUMN=VALUE"),
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(help="The table's name of a network: `--name densenet=densenet121`.", metavar="A=B"),
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(help="Compare only within each value of this column, resolution say.", metavar="COLUMN"),
]
BestByOption = Annotated[
    str | None,
    typer.Option(help="Of the runs of a search keep the best by this column.", metavar="[-]COLUMN"),
]
MarginOption = Annotated[
    float | None,
    typer.Option(help="AUC over the range of networks that does not matter; default: 0.01.", metavar="AUC"),
]
PredictorOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Ask about this, too: `macs`, `imagenet_top1`, `year`, `attention`, any column of numbers "
        "(`width:log2`), or one value against all others (`family=resnet`).",
        metavar="COLUMN[:SCALE]",
    ),
]

"""The commands about trained models: options and exit codes, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfathom.terminal.options import JsonOption, RunStudyArgument, StorageOption, complete_trial, example


def add_commands(app: typer.Typer) -> None:
    """Add them to the program, after those of studies."""
    app.command(epilog=example("export demo --out model"))(export)
    app.command(epilog=example("predict model scans --csv predictions.csv"))(predict)
    app.command(epilog=example("evaluate model other.toml --recalibrate 100"))(evaluate)


def export(
    study: RunStudyArgument,
    out: Annotated[Path, typer.Option(help="The model folder to create.", metavar="DIR")],
    within: Annotated[
        float | None,
        typer.Argument(help="With smallest-within: the AUC that may be lost, for example 0.01.", min=0),
    ] = None,
    trial: Annotated[
        str,
        typer.Option(
            help="Which model: best, the number of a search trial (from 0), or smallest-within",
            metavar="WHICH",
            autocompletion=complete_trial,
        ),
    ] = "best",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Export the ensemble that `confirm --ensemble` kept.")
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write it as ONNX.")] = True,
    prints: Annotated[
        bool,
        typer.Option(
            "--fingerprints/--no-fingerprints",
            help="Also write fingerprints of the training images, so that `evaluate` finds copies of them.",
        ),
    ] = True,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a confirmed model as a folder: weights, preprocessing, thresholds, calibration, card, ONNX.

    `--trial best` has the best validation AUC; `--trial smallest-within 0.005` has the fewest parameters of
    all models within 0.005 AUC of the best; `--trial 7` is search trial 7, if it was confirmed.
    """
    from medfathom.terminal.export import print_export  # noqa: PLC0415

    print_export(
        study,
        out,
        trial=trial,
        ensemble=ensemble,
        within=within,
        storage=storage,
        onnx=onnx,
        prints=prints,
        as_json=as_json,
    )


def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `export` wrote.", metavar="FOLDER")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGES…")],
    csv: Annotated[
        Path | None, typer.Option(help="Write a CSV file instead of a table.", metavar="FILE")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, …")] = "cpu",
    per_image: Annotated[
        bool, typer.Option(help="Print a row for each image, even if the model judges cases.")
    ] = False,
    mpp: Annotated[
        float | None,
        typer.Option(min=0.05, max=10, help="Microns per pixel of slides whose header does not say it."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Predict class probabilities of images with an exported model.

    A model of volumes, slides or other cases gives a row for each case: the images of a folder. Images that
    cannot be read are named and skipped; the exit code is then 1.
    """
    from medfathom.terminal.predictions import print_predictions  # noqa: PLC0415

    return print_predictions(
        model, images, csv_file=csv, device=device, as_json=as_json, per_image=per_image, mpp=mpp
    )


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder that `export` wrote, or the name of a confirmed study.", metavar="MODEL"
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="A TOML file with [dataset], and with [map] if class names differ.",
            metavar="OTHER.toml",
        ),
    ],
    recalibrate: Annotated[
        int | None,
        typer.Option(
            help="Fit probabilities again on this many images, drawn by patient.", min=1, metavar="N"
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Subgroups by columns in `[dataset] keep`: sex,age:10.", metavar="COLUMNS")
    ] = "",
    split: Annotated[
        str | None,
        typer.Option(help="Use only this split of the data: train, val or test; default: all images."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, …")] = "cpu",
    copies: Annotated[
        bool,
        typer.Option(
            "--copies",
            help="Also compare the images with all training images; this finds crops too, but takes long.",
        ),
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Draw ROC curve, Grad-CAM and the 20 most confident mistakes here.", metavar="DIR"),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> int:
    """Judge a model on labelled data from another source: AUC, its drop, calibration, copies.

    It first searches the data for training images. The result is saved in the model's folder and card, and in
    the study's storage.
    """
    from medfathom.terminal.evaluation import evaluate_and_tell  # noqa: PLC0415

    return evaluate_and_tell(
        model,
        data,
        recalibrate=recalibrate,
        by=by,
        split=split,
        device=device,
        storage=storage,
        copies=copies,
        pictures=pictures,
        as_json=as_json,
    )

"""The commands that hand a study to other programs and readers: options and exit codes, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfathom.terminal.options import (
    JsonOption,
    RunStudyArgument,
    SetOption,
    StorageOption,
    StudyArgument,
    example,
)

elsewhere = typer.Typer()


@elsewhere.command(epilog=example("submit demo --slurm --minutes 240 --gpus 1"))
def submit(
    study: StudyArgument,
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit to Slurm, from a login node.")] = False,
    minutes: Annotated[
        int, typer.Option(help="Minutes of the job; a study that takes longer is queued again.", min=3)
    ] = 240,
    cpus: Annotated[int, typer.Option(help="CPUs of the job.", min=1)] = 4,
    gpus: Annotated[int, typer.Option(help="GPUs of the job.", min=0)] = 0,
    memory: Annotated[float | None, typer.Option(help="Memory of the job.", metavar="GB", min=0.1)] = None,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.", metavar="NAME")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm's account.", metavar="NAME")] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(help="Any other option of sbatch: `--sbatch qos=low`.", metavar="KEY=VALUE"),
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Confirm the study afterwards.")] = False,
    storage: StorageOption = None,
    set_: SetOption = None,
) -> None:
    """Run a study as a Slurm job. If the job is preempted or its time is over, it is queued again."""
    from medfathom.terminal.submit import Asked, submit_and_tell  # noqa: PLC0415

    asked = Asked(minutes, cpus, gpus, memory, partition, account, tuple(sbatch or ()))
    submit_and_tell(study, set_ or [], asked, slurm=slurm, storage=storage, confirm=confirm)


@elsewhere.command("export-runs", epilog=example("export-runs demo --mlflow mlruns"))
def export_runs(
    study: RunStudyArgument,
    mlflow: Annotated[
        Path | None, typer.Option(help="A folder for an MLflow database.", metavar="DIR")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="A folder for TensorBoard, or one that has its runs.", metavar="DIR")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write the trials of a study as MLflow or TensorBoard runs: parameters, metrics, learning curves."""
    from medfathom.terminal.export import print_exported_runs  # noqa: PLC0415

    print_exported_runs(study, mlflow=mlflow, tensorboard=tensorboard, storage=storage)


@elsewhere.command(epilog=example("report demo --checklist claim --out report"))
def report(
    study: RunStudyArgument,
    checklist: Annotated[
        str, typer.Option(help="Which checklist: claim, tripod-ai or stard-ai.", metavar="NAME")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Write Markdown, HTML (opens in Word) and JSON into this folder.", metavar="DIR"),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill in a reporting checklist from the study's record, and write a methods paragraph.

    Each item has an answer and where it comes from in the record, or a question to the author.
    """
    from medfathom.terminal.report import print_report  # noqa: PLC0415

    print_report(study, checklist, out, storage, as_json=as_json)


@elsewhere.command(epilog=example("dashboard --port 0"))
def dashboard(
    storage: StorageOption = None,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8080,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; visitors from other machines need the printed token.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    writable: Annotated[
        bool,
        typer.Option("--writable", help="Allow visitors to change and delete studies (there is no login)."),
    ] = False,
) -> None:
    """Serve optuna-dashboard of the storage to this machine or, with --host, to anyone with its token."""
    from medfathom.dashboard.server import serve  # noqa: PLC0415
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.terminal.output import print_text  # noqa: PLC0415

    serve(storage or default_url(), port, writable=writable, say=print_text, host=host)

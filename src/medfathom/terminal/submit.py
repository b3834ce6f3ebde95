"""`medfathom submit`: a study as a job of Slurm, which goes on where it was preempted.

submitit writes the job and sends it. Slurm warns the job (SIGUSR2) before its time is over or it is
preempted; the job then puts itself back into the queue, and goes on with the study as after any other
interruption: the storage has every epoch that ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from medfathom.definitions.load import load_definition
from medfathom.errors import InputError
from medfathom.files import home
from medfathom.terminal.output import print_text
from medfathom.text import command

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

WARNED_S = 120
"""So long before the end of its time Slurm warns the job: to end Ray takes seconds."""

TIMES_QUEUED = 1000
"""A study ends by its own budget, not by how often its job ran out of time."""


@dataclass(frozen=True)
class Asked:
    """What a job asks of Slurm; None: the cluster's own default.

    Attributes:
        minutes: until it is put back into the queue.
        cpus, gpus: of one node.
        memory_gb: of the node.
        more: further options of `sbatch`, each `key=value`, or `key`.
    """

    minutes: int
    cpus: int
    gpus: int
    memory_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyJob:
    """What the job does: run the study, or go on with it; then confirm it where that is asked for."""

    study: str
    sets: tuple[str, ...]
    storage: str | None
    confirm: bool

    def __call__(self) -> int:
        """The exit code."""
        from medfathom.terminal.confirmation import confirm_and_tell  # noqa: PLC0415
        from medfathom.terminal.run import run_and_tell  # noqa: PLC0415

        code = run_and_tell(self.study, self.sets, storage=self.storage)
        if code or not self.confirm:
            return code
        return confirm_and_tell(self.study, storage=self.storage)

    def checkpoint(self) -> DelayedSubmission:
        """What is queued again when Slurm warns: the same, since the study's storage knows how far it is."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  an extra

        return DelayedSubmission(self)


def submit_and_tell(
    study: str, sets: Sequence[str], asked: Asked, *, slurm: bool, storage: str | None, confirm: bool
) -> None:
    """Send a study to Slurm and say where its log is.

    Raises:
        InputError: the definition cannot be used, submitit is not installed, no Slurm is here, or it refuses.
    """
    if not slurm:
        raise InputError(f"submit {study}: give --slurm; no other scheduler is supported")
    load_definition(study, sets)
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError("submit --slurm: no `sbatch` on PATH; submit from a login node of a Slurm cluster")
    number, log = _send(StudyJob(study, tuple(sets), storage, confirm), asked)
    print_text(
        f"Slurm job {number}: study {study!r}. Log: {log}\n"
        f"Look: {command('show', study)}; `scancel {number}` ends it; finished trials stay."
    )


def _send(job: StudyJob, asked: Asked) -> tuple[str, str]:
    """The job's number, and its log."""
    try:
        from submitit import SlurmExecutor  # noqa: PLC0415  an extra
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415
    except ImportError:
        raise InputError("submit --slurm needs submitit: install medfathom[slurm]") from None
    executor = SlurmExecutor(home() / "slurm", max_num_timeout=TIMES_QUEUED)
    executor.update_parameters(**_parameters(job, asked))
    try:
        sent = executor.submit(job)
    except (FailedJobError, FailedSubmissionError) as error:
        raise InputError(f"submit --slurm: {' '.join(str(error).split())}") from None
    return sent.job_id, str(sent.paths.stdout)


def _parameters(job: StudyJob, asked: Asked) -> dict[str, object]:
    """As `sbatch` takes them, in submitit's names."""
    given = asdict(asked)
    more = {key: value or True for key, _, value in (text.partition("=") for text in asked.more)}
    return {
        "job_name": f"medfathom-{job.study}",
        "time": given["minutes"],
        "cpus_per_task": given["cpus"],
        "ntasks_per_node": 1,
        "nodes": 1,
        "signal_delay_s": WARNED_S,
        "additional_parameters": {"requeue": True, **more},
        **({"gpus_per_node": asked.gpus} if asked.gpus else {}),
        **({"mem": f"{asked.memory_gb:g}GB"} if asked.memory_gb else {}),
        **{name: given[name] for name in ("partition", "account") if given[name]},
    }

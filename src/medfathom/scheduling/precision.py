"""In which precision a run trains: asked once of a worker of the kind that trains, then the study's own."""

from __future__ import annotations

import ray
from ray.exceptions import RayError

from medfathom.errors import RunError
from medfathom.scheduling.cluster import Slots
from medfathom.scheduling.messages import said_last
from medfathom.study.driver import Driver
from medfathom.study.precision import Precision


def precision_of_run(driver: Driver, slots: Slots) -> Precision:
    """What the study trains in, decided now where it was not before, and written down.

    Raises:
        RunError: no worker answered, or the storage did not.
    """
    wanted = driver.config.training.precision
    if wanted == "auto":
        wanted = driver.settled_precision() or _fastest_of_a_worker(slots)
    return driver.settle_precision(wanted)


def _fastest_of_a_worker(slots: Slots) -> Precision:
    """What `training.precision = "auto"` means on the node that has room for a trial first."""
    asked = _runs_in_bfloat16.options(num_cpus=slots.cpus_per_trial, num_gpus=slots.gpus_per_trial)
    try:
        return "bfloat16" if ray.get(asked.remote(slots.device)) else "float32"
    except RayError as error:
        raise RunError(f"no worker could report its training precision ({said_last(error)})") from None


# one call: a worker that stays would keep torch's 300 MB for the whole run
@ray.remote(max_calls=1)  # type: ignore[untyped-decorator]
def _runs_in_bfloat16(device: str) -> bool:
    import torch  # noqa: PLC0415  in the worker only

    from medfathom.trial.precision import runs_in_bfloat16  # noqa: PLC0415

    return runs_in_bfloat16("auto", torch.device(device))

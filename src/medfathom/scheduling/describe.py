"""What a trial is whose worker was lost before its first epoch: asked of another worker."""

from __future__ import annotations

import ray
from ray.exceptions import RayError

from medfathom.scheduling.messages import Order, RunSettings
from medfathom.trial.record import TrialRecord

DESCRIPTION_S = 60.0
"""So long, in seconds, a description may take; the trial is then left with its parameters only."""


def describe_lost(settings: RunSettings, order: Order) -> TrialRecord | None:
    """The trial's architecture, size and data as its record tells them; None: no worker could tell."""
    if settings.work is not None:
        return None
    try:
        described: TrialRecord | None = ray.get(_describe.remote(settings, order), timeout=DESCRIPTION_S)
    except RayError:
        return None
    return described


@ray.remote(num_cpus=0, max_retries=0, max_calls=1)  # type: ignore[untyped-decorator]
def _describe(settings: RunSettings, order: Order) -> TrialRecord | None:
    from medfathom.scheduling.worker import describe, task_of  # noqa: PLC0415  imports torch, in the worker only

    return describe(order.assignment.params, task_of(settings, order))

"""What AUC costs: parameters, multiply-accumulates, time on this machine; and the front of what was measured.

The AUCs are point estimates on the test split. A front of these ignores their intervals, and choosing by it
would be choosing on test images: that is what validation images are for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from optuna.study import Study

from medfathom.confirmation.words import CAUTION, COSTS
from medfathom.exported.model import Deployed
from medfathom.models.folder import read_config
from medfathom.trial.provenance import device_name

EFFICIENCY = "efficiency"
"""Attribute of a study: `measure`'s result."""


WARM_UP, TIMED = 2, 9
"""Forward passes."""


PICTURE = "efficiency.png"


def measure(strata: Sequence[dict[str, Any]], threads: int) -> dict[str, Any]:
    """Cost and AUC of every confirmed configuration.

    Args:
        strata: of `confirmation.summary.summarize_confirmation`.
        threads: CPU threads of the timing.

    Returns:
        Keys `device`, `auc` ("test, mean over seeds"), and `models`: for each its `stratum search_trial auc`
        and `COSTS`, and `front`, the costs for which no other has as much AUC for less.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times: dict[str, float] = {}
        models = []
        for row in strata:
            name = str(row["architecture"])
            if name not in times:
                times[name] = latency_ms(Path(row["models"][0]["folder"]))
            costs = {"n_params": row["n_params"], "macs": row["macs"], "latency_ms": times[name]}
            models.append(
                {key: row[key] for key in ("stratum", "architecture", "search_trial")}
                | {"auc": row["test_auc"], "ci": row["ci"], **costs}
            )
        device = device_name(torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    for model in models:
        model["front"] = [cost for cost in COSTS if on_front(model, models, cost)]
    return {"device": device, "auc": "test, mean over seeds", "models": models}


def latency_ms(folder: Path) -> float:
    """Median time of a forward pass of one image, in milliseconds, in float32 on the CPU."""
    config = read_config(folder)
    module = Deployed(config).eval()
    image = torch.rand(1, config.channels, config.image_size, config.image_size)
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM_UP + TIMED):
            started = time.perf_counter()
            module(image)
            seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[WARM_UP:])


def on_front(model: dict[str, Any], models: Sequence[dict[str, Any]], cost: str) -> bool:
    """Whether no other model is at least as good and as cheap, and better in one of the two.

    >>> a, b = {"auc": 0.9, "n_params": 2}, {"auc": 0.8, "n_params": 3}
    >>> on_front(a, [a, b], "n_params"), on_front(b, [a, b], "n_params")
    (True, False)
    """
    return not any(
        other["auc"] >= model["auc"]
        and other[cost] <= model[cost]
        and (other["auc"] > model["auc"] or other[cost] < model[cost])
        for other in models
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """One panel for each cost: every model with its interval, the front joined."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (cost, title) in zip(figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for model in found["models"]:
            front = cost in model["front"]
            low, high = model["ci"]
            colour = "#0072B2" if front else "0.65"
            axes.plot([model[cost]] * 2, [low, high], color=colour, alpha=0.5, linewidth=1)
            axes.scatter(model[cost], model["auc"], color=colour, s=26, zorder=3)
        front_models = sorted((m for m in found["models"] if cost in m["front"]), key=lambda m: m[cost])
        axes.plot(
            [m[cost] for m in front_models], [m["auc"] for m in front_models], color="#0072B2", linewidth=1
        )
        for model in front_models:
            axes.annotate(
                model["architecture"],
                (model[cost], model["auc"]),
                fontsize=7,
                xytext=(4, 5),
                textcoords="offset points",
            )
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_xlabel(title)
    figure.axes[0].set_ylabel("test AUC, 95 % interval")
    figure.suptitle(f"What AUC costs ({found['device']}); blue: the front.\n{CAUTION}.", fontsize=9)
    figure.savefig(path, dpi=110)


def keep(study: Study, summary: dict[str, Any], folder: Path, threads: int) -> dict[str, Any]:
    """Measure, keep it as the study's attribute, and add the picture to the study."""
    from medfathom.dashboard.notes import add_picture  # noqa: PLC0415  only here

    found = measure(summary["strata"], threads)
    study.set_user_attr(EFFICIENCY, found)
    draw(found, folder / PICTURE)
    add_picture(study, folder / PICTURE)
    return found

"""What AUC costs: parameters, multiply-accumulates, time on this machine; and the front of what was measured.

The AUCs are point estimates on the test split. A front of these ignores their intervals, and choosing by it
would be choosing on test images: that is what validation images are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.study import Study

from medfathom.colours import BLUE
from medfathom.confirmation.results import COSTS, Efficiency, ModelCost, StratumResult
from medfathom.confirmation.words import CAUTION
from medfathom.dashboard.notes import add_picture
from medfathom.exported.network import Deployed
from medfathom.models.folder import read_config
from medfathom.trial.latency import latency_ms
from medfathom.trial.provenance import device_name

EFFICIENCY = "efficiency"
"""Attribute of a study: the device, and the latency of each architecture; the trials have the rest."""

PICTURE = "efficiency.png"


def keep(study: Study, strata: Sequence[StratumResult], folder: Path, threads: int) -> Efficiency:
    """Measure, keep the result as the study's attribute, and add the picture to the study.

    Args:
        study: the search.
        strata: its confirmed configurations.
        folder: for the picture.
        threads: CPU threads of the timing.
    """
    found = measure(strata, threads)
    latencies = {model.architecture: round(model.latency_ms, 3) for model in found.models}
    study.set_user_attr(EFFICIENCY, {"device": found.device, "latency_ms": latencies})
    draw(found, folder / PICTURE)
    add_picture(study, folder / PICTURE)
    return found


def measure(strata: Sequence[StratumResult], threads: int) -> Efficiency:
    """Cost and AUC of every confirmed configuration; a network's latency at an image size is measured once.

    It is the same measure as that of a trial, but of the network as it is exported, and on the CPU.
    """
    with _threads(threads):
        latencies = _latencies([result.models[0].folder for result in strata])
        device = device_name(torch.device("cpu"))
    models = tuple(
        ModelCost(
            stratum=result.stratum,
            architecture=result.architecture,
            search_trial=result.search_trial,
            auc=result.test_auc,
            ci=result.ci,
            n_params=result.n_params,
            macs=result.macs,
            latency_ms=latency,
        )
        for result, latency in zip(strata, latencies, strict=True)
    )
    return Efficiency(device, models)


def _latencies(folders: Sequence[Path]) -> list[float]:
    """Of each model."""
    known: dict[tuple[str, int, int], float] = {}
    found = []
    for folder in folders:
        config = read_config(folder)
        key = (config.architecture, config.channels, config.image_size)
        if key not in known:
            shape = (config.channels, config.image_size, config.image_size)
            known[key] = latency_ms(Deployed(config), shape, torch.device("cpu"))
        found.append(known[key])
    return found


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw(found: Efficiency, path: Path) -> None:
    """One panel for each kind of cost: every model with its interval, the front joined."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (kind, title) in zip(figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True):
        _panel(axes, found, kind)
        axes.set_xlabel(title)
    figure.axes[0].set_ylabel("test AUC, 95 % interval")
    figure.suptitle(f"AUC against cost ({found.device}); blue: the front.\n{CAUTION}.", fontsize=9)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, found: Efficiency, kind: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    front = found.front(kind)
    for model in found.models:
        colour = BLUE if model in front else "0.65"
        axes.plot([model.costs[kind]] * 2, model.ci, color=colour, alpha=0.5, linewidth=1)
        axes.scatter(model.costs[kind], model.auc, color=colour, s=26, zorder=3)
    axes.plot([m.costs[kind] for m in front], [m.auc for m in front], color=BLUE, linewidth=1)
    for model in front:
        axes.annotate(
            model.architecture,
            (model.costs[kind], model.auc),
            fontsize=7,
            xytext=(4, 5),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.margins(x=0.2)

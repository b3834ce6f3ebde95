"""`medfathom export` in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.errors import InputError
from medfathom.terminal.output import print_json
from medfathom.text import command

if TYPE_CHECKING:
    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.results import StratumResult
    from medfathom.export import Exported


def print_export(
    study: str,
    out: Path,
    *,
    trial: str,
    ensemble: bool,
    within: float | None,
    storage: str | None,
    onnx: bool,
    prints: bool,
    as_json: bool,
) -> None:
    """Export a model as `export_model` does and print which one it is.

    Raises:
        InputError: `within` is given for another trial than the smallest one, or a trial for an ensemble.
    """
    if ensemble and trial != "best":
        raise InputError(f"--ensemble: `confirm` has chosen its models; leave out --trial {trial}")
    if within is not None and trial != "smallest-within":
        raise InputError(f"export {study} {within:g}: a margin needs --trial smallest-within")
    from medfathom.definitions.load import study_name  # noqa: PLC0415
    from medfathom.export import WITHIN, export_model  # noqa: PLC0415  imports Optuna

    margin = WITHIN if within is None else within
    done = export_model(
        study_name(study),
        out,
        trial=trial,
        ensemble=ensemble,
        within=margin,
        storage=storage,
        onnx=onnx,
        prints=prints,
    )
    if as_json:
        print_json(done.to_dict())
    else:
        print(_text(done))  # noqa: T201


def print_exported_runs(
    study: str, *, mlflow: Path | None, tensorboard: Path | None, storage: str | None
) -> None:
    """Export the trials of a study as `export_runs` does, and say how to look at them."""
    from medfathom.definitions.load import study_name  # noqa: PLC0415
    from medfathom.export_runs import export_runs  # noqa: PLC0415  imports Optuna

    done = export_runs(study_name(study), mlflow=mlflow, tensorboard=tensorboard, storage=storage)
    left_out = f" ({done.left_out} trials that have not begun are left out)" if done.left_out else ""
    print(f"{done.place}: {done.runs} runs{left_out}\nTo view them: {done.look}")  # noqa: T201


def _timm(done: Exported) -> str:
    if done.configuration.datasets:
        return f"A folder for each head: {', '.join(done.configuration.datasets)}. timm does not load it"
    if done.ensemble is not None:
        return "timm cannot load an ensemble; `model.onnx` gives its mean probabilities without medfathom"
    whole = "the same logits" if done.views is None else "the logits of one view"
    gives = whole if done.whole_in_timm else "the features; the card says how to add the head"
    return f'In timm: timm.create_model("local-dir:{done.folder}", pretrained=True) gives {gives}'


def _of_seeds(configuration: StratumResult, *, views: bool) -> str:
    """The number that `confirm` printed, where it is of other models too; never of views."""
    n = len(configuration.models)
    this, others = ("this seed, with views", " without views") if views else ("this seed", "")
    return (
        f" ({this}; the mean of {n} seeds{others}, as `confirm` has it: {configuration.test_auc:.4f})"
        if n > 1
        else ""
    )


def _text(done: Exported) -> str:
    from medfathom.confirmation.words import chance_warning, named  # noqa: PLC0415

    configuration, model = done.configuration, done.model
    checked = "" if done.onnx_difference is None else f", ONNX equal to {done.onnx_difference:.0e}"
    warning = chance_warning(configuration, model)
    views = (
        f"Each image in {len(done.views.views)} views: {', '.join(done.views.views)}\n" if done.views else ""
    )
    if done.ensemble is not None:
        return _ensemble(done, done.ensemble) + checked + f"\n{_timm(done)}\n{_next(done)}"
    return (
        (f"{warning}\n" if warning else "")
        + f"{done.folder}: {named(configuration.architecture, configuration.stratum)} "
        f"(search trial {configuration.search_trial}, seed {model.seed}), "
        f"{configuration.n_params / 1e6:.1f} M parameters, test AUC {model.test_auc:.4f}"
        f"{_of_seeds(configuration, views=done.views is not None)}{checked}\n"
        f"{views}"
        f"{_timm(done)}\n"
        f"{_next(done)}"
    )


def _next(done: Exported) -> str:
    first = next(iter(done.configuration.datasets), "")
    return f"Next: {command('predict', done.folder / first, 'IMAGES')}"


def _ensemble(done: Exported, found: Ensemble) -> str:
    trials = ", ".join(map(str, found.members))
    return (
        f"{done.folder}: ensemble of {len(found.members)} networks (trials {trials} of the confirmation), "
        f"test AUC {found.test_auc:.4f} (the single best: {found.single_test_auc:.4f})"
    )

"""The model card: what a model is, what it is worth, what it must not be used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medfathom.confirmation.words import opened, over
from medfathom.data.leakage import LEAKAGE
from medfathom.models.folder import ModelConfig

if TYPE_CHECKING:
    from optuna.study import Study

CARD = """# {title}

{architecture} (init {init}, the last {unfreeze_depth} of 5 layer groups and the head trained), for {modality}
images: {classes}. Written by medfathom {version} from study `{study}`.

## Use

```
medfathom predict FOLDER IMAGES…
```

```python
import medfathom

predictions = medfathom.load("FOLDER").predict(["image.png"])
predictions.class_names, predictions.probabilities
```

{onnx}Images become {size} x {size} pixels ({fit}), {channels}; `config.json` has everything that belongs to
the model.

## What it is worth

Test split: {n_test} images that neither training nor the search ever saw. {opened}

{metrics}

- Over {n_seeds} trainings with different seeds: mean test AUC {test_auc:.4f}, 95 % interval {ci}
  ({over}){seed_sd}. The interval in the table is of this model alone.
- Optimism: the search's best validation AUC was {search_auc:.4f}, which is {optimism:+.4f} against the mean
  test AUC.

## Decisions and calibration

Probabilities are softmax (several labels: sigmoid) of logits divided by temperature {temperature:.4f}, fitted
on the validation split. Thresholds, by Youden's J on the validation split: {thresholds}.

## Intended use

Research on images like those it was trained on: {modality}, data set `{dataset}`. As a starting point for
another data set: `init = "export:FOLDER"`.

## Limits

- **Not a medical device.** It has not been validated for clinical use; no diagnosis may rest on it.
- Measured on one data set's test split; other scanners, sites, populations and prevalences can change every
  number.
- It gives each image one of the classes above, whatever it shows; it does not know what it has not seen.
- {groups}
{leakage}- Thresholds assume the validation split's prevalence and equal costs of both errors.

## Provenance

| what | value |
| --- | --- |
{provenance}
"""

SHOWN = (
    ("auc", "AUC"),
    ("average_precision", "average precision"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("precision", "precision"),
    ("accuracy", "accuracy"),
    ("brier_loss", "Brier loss"),
    ("calibration_error", "calibration error"),
)


def model_card(
    config: ModelConfig,
    study: Study,
    row: dict[str, Any],
    model: dict[str, Any],
    attributes: dict[str, Any],
    onnx_difference: float | None,
) -> str:
    """Markdown.

    Args:
        config: of the model.
        study: the search.
        row: the configuration, from `confirmation.summary.summarize_confirmation`.
        model: the entry of `row["models"]` that is exported.
        attributes: of the model's trial: its metrics.
        onnx_difference: largest difference of a probability to torch; None: no ONNX.
    """
    low, high = row["ci"]
    return CARD.format(
        title=f"{study.study_name}: {config.architecture}",
        architecture=config.architecture,
        init=config.init,
        unfreeze_depth=config.unfreeze_depth,
        modality=config.modality,
        classes=", ".join(config.class_names),
        version=config.medfathom,
        study=study.study_name,
        onnx=_onnx(onnx_difference),
        size=config.image_size,
        fit=config.fit,
        channels="grey" if config.channels == 1 else "colour",
        n_test=attributes["n_test"],
        opened=opened(study.user_attrs.get("test_openings", [])),
        metrics=_metrics(attributes),
        n_seeds=len(row["models"]),
        test_auc=row["test_auc"],
        ci=f"{low:.4f} to {high:.4f}",
        over=over(row),
        seed_sd="" if row["seed_sd"] is None else f", standard deviation between seeds {row['seed_sd']:.4f}",
        search_auc=row["search_auc"],
        optimism=row["optimism"],
        temperature=config.temperature,
        thresholds=_thresholds(config),
        dataset=config.dataset,
        groups=_groups(attributes),
        leakage=_leakage(study.user_attrs.get(LEAKAGE)),
        provenance=_provenance(config, row, model, attributes),
    )


def _onnx(difference: float | None) -> str:
    if difference is None:
        return ""
    return (
        "`model.onnx` takes `images` (n, channels, side, side), values in [0, 1], and gives `logits` and\n"
        f"calibrated `probabilities`; it differs from torch by at most {difference:.1g} in a probability.\n\n"
    )


def _metrics(attributes: dict[str, Any]) -> str:
    lines = ["| metric | validation | test | 95 % interval (test) |", "| --- | --- | --- | --- |"]
    for name, title in SHOWN:
        test = attributes.get(f"test_{name}")
        if test is None:
            continue
        # Before the temperature these two meant something else.
        val = None if name in ("brier_loss", "calibration_error") else attributes.get(name)
        interval = _interval(attributes, f"test_{name}")
        lines.append(f"| {title} | {'' if val is None else f'{val:.4f}'} | {test:.4f} | {interval} |")
    for name, values in (attributes.get("test_per_class") or {}).items():
        if "auc" in values:
            lines.append(f"| AUC of {name} | | {values['auc']:.4f} | {_interval(values, 'auc')} |")
    how = f"AUC intervals: {attributes.get('test_auc_interval', 'DeLong')}. Others: Wilson's"
    if _by_groups(attributes):
        how += ", with the effective number of images of Rao and Scott (Biometrics 1992)"
    return "\n".join([*lines, "", how + "."])


def _interval(values: dict[str, Any], name: str) -> str:
    low, high = values.get(f"{name}_ci_low"), values.get(f"{name}_ci_high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _thresholds(config: ModelConfig) -> str:
    names = config.class_names[1:] if config.task == "binary" else config.class_names
    if config.task == "multiclass":
        return "none, the likeliest class is taken"
    return ", ".join(
        f"{name} from {'0.5 (none could be chosen)' if t is None else f'{t:.4f}'}"
        for name, t in zip(names, config.thresholds, strict=True)
    )


def _groups(attributes: dict[str, Any]) -> str:
    if _by_groups(attributes):
        return "Intervals count patients (or slides), not images."
    return "The data set names no patients: if some have several test images, the intervals are too narrow."


def _leakage(said: str | None) -> str:
    """What `confirm` said of leakage; None: an older one, which did not look."""
    if said is None:
        return ""
    return f"- {said or 'No image has an exact copy, and no known patient or slide is, in another split'}.\n"


def _by_groups(attributes: dict[str, Any]) -> bool:
    return "group" in attributes.get("test_auc_interval", "")


def _provenance(
    config: ModelConfig, row: dict[str, Any], model: dict[str, Any], attributes: dict[str, Any]
) -> str:
    values = {
        "data set fingerprint": config.dataset_fingerprint,
        "stratum": row["stratum"],
        "search trial": row["search_trial"],
        "confirmation trial, seed": f"{model['trial']}, {config.seed}",
        "hyperparameters": ", ".join(f"{k} {v}" for k, v in row["params"].items()) or "defaults",
        "weights from": attributes.get("init_source", ""),
        "parameters, depth, MACs": f"{row['n_params']:,}, {row['depth']}, {row['macs']:,}",
        "trained on": attributes.get("device", ""),
        "versions": ", ".join(f"{k} {v}" for k, v in attributes.get("versions", {}).items()),
    }
    return "\n".join(f"| {name} | {value} |" for name, value in values.items())

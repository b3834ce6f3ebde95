"""The model card: what a model is, how well it performs, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medfathom.confirmation.card_metrics import calibration_table, calibration_text, metrics_table
from medfathom.confirmation.decisions import decision_words
from medfathom.confirmation.find import SUBGROUPS, without_map
from medfathom.confirmation.openings import read_openings
from medfathom.confirmation.words import (
    WHO,
    by_groups,
    chance_warning,
    gap_words,
    objective_sentence,
    opened,
    what_varies,
)
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.strategies import DEFAULT
from medfathom.metrics.calibration import HIGHEST, LOWEST
from medfathom.metrics.probabilities import num_outputs
from medfathom.metrics.rules import CALIBRATIONS, threshold_words
from medfathom.models.folder import HEAD_FILE, ModelConfig
from medfathom.study.choice import objective_of
from medfathom.text import harmless, markdown_table
from medfathom.units import counted

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.results import ConfirmedModel, StratumResult

CARD = """---
{library}tags: [timm, image-classification, medical-imaging]
---

# {title}

{warning}{architecture} for {modality} images; classes: {classes}. Init: {init}; {trained}.
Written by medfathom {version} from study `{study}`.

## Use

```
medfathom predict FOLDER IMAGES…
```

```python
import medfathom

predictions = medfathom.load("FOLDER").predict(["{example}"])
predictions.class_names, predictions.probabilities
```

{combined}{onnx}Images are converted to {channels} and to {size} x {size} pixels ({fit}){window}.
`medfathom.json` says how to build the network, prepare images and read the outputs.

{timm}
## Performance

Test split: {judged} that neither training nor the search used. {opened}

{positive}{objective}{metrics}

{compared}
## Calibration and thresholds

{calibration}{at_bound} {thresholds}
{gained}
## Intended use

Research on images like those it was trained on: {modality}, data set `{dataset}`.{start}

## Limits

- **Not a medical device.** It has not been validated for clinical use. Do not base a diagnosis on it.
- It was tested on one data set only. Other scanners, sites, populations and prevalences can change every
  number.
- It knows only the classes above, and predicts them even for an image that shows something else.
- {groups}
{no_map}{leakage}- Probabilities are calibrated for the class frequencies of the validation split.{weight}

## Provenance

| what | value |
| --- | --- |
{provenance}
"""

TIMM = """### In timm

```python
{code}
```

Give timm images in [0, 1], {channels}, with this mean subtracted and divided by this standard deviation:
{mean}; {std}. Calibration, thresholds and views (below) are not in timm; they are in `medfathom.json`.
"""

START = """ It can also be the starting
point for another data set: `init = "export:FOLDER"`."""

WEIGHT = """
  Thresholds give sensitivity and specificity equal weight; choose others where one kind of error is worse."""

OF_SEEDS = """\
- Trained with {seeds}{without}: mean test AUC {test_auc:.4f}, 95 % interval {ci} ({varies}){seed_sd}. The
  intervals in the table are for this model alone.
- Optimism: the validation AUC in the search was {search_auc:.4f}, {optimism} the mean test AUC.{gap}
{subgroups}"""

NEAR = 1.01
"""A temperature is at an end of its range from this factor on: the search never reaches the end itself."""


def model_card(
    config: ModelConfig,
    study: Study,
    configuration: StratumResult,
    model: ConfirmedModel,
    onnx_difference: float | None,
    ensemble: Ensemble | None = None,
    views: Sequence[str] = (),
) -> str:
    """The card in Markdown.

    Args:
        config: of the model.
        study: the search.
        configuration: that the model is of, over all its seeds.
        model: that is exported.
        onnx_difference: largest difference of a probability between ONNX Runtime and torch; None: no ONNX.
        ensemble: that the model is; `configuration` is then of its first member.
        views: what its test-time views gain, in sentences.
    """
    text = CARD.format(
        warning="" if ensemble else _warning(configuration, model),
        library="" if ensemble or config.head is not None else "library_name: timm\n",
        title=f"{study.study_name}: {config.architecture}",
        architecture=f"The mean of {len(config.members)} networks" if ensemble else config.architecture,
        init=config.init,
        trained=_trained(config),
        modality=config.modality,
        classes=", ".join(config.class_names),
        version=config.medfathom,
        example="image.png" if config.unit == "image" else "folder_of_images",
        study=study.study_name,
        onnx=_onnx(onnx_difference, config),
        timm=_members(config) if ensemble else _in_timm(config),
        size=config.image_size,
        fit=config.fit,
        window=""
        if config.window is None
        else ", DICOM files by the window {:g}, {:g}".format(*config.window),
        channels="grey" if config.channels == 1 else "colour",
        judged=counted(model.n_test, model.test.n_cases, config.unit).replace("test ", ""),
        combined=_combined(config),
        opened=opened(read_openings(study)),
        positive=_positive(config),
        metrics=metrics_table(model),
        objective=_objective(configuration, objective_of(study)) if not ensemble else "",
        compared=_against_single(ensemble)
        if ensemble
        else _of_seeds(study, configuration, model, config) + "".join(f"- {line}\n" for line in views),
        calibration=calibration_text(config),
        at_bound=_at_bound(config),
        gained="" if ensemble else calibration_table(configuration),
        thresholds=_thresholds(config) + decision_words(config, model),
        dataset=config.dataset,
        start="" if ensemble or config.norm == "per_dataset" else START,
        groups=_groups(model, config.unit),
        no_map=f"- There is {why}.\n" if (why := without_map(model.pictures)) else "",
        leakage=_leakage(study.user_attrs.get(LEAKAGE)),
        weight=WEIGHT if config.threshold_rule == "youden" and config.task != "multiclass" else "",
        provenance=_provenance(config, configuration, model),
    )
    return harmless(text)


def _objective(configuration: StratumResult, objective: str) -> str:
    """What the search looked for, where that is not AUC."""
    line = objective_sentence(configuration, objective)
    return f"{line}\n\n" if line else ""


def _in_timm(config: ModelConfig) -> str:
    if config.head is not None:
        return "It is one head of a model of several data sets. The weights are in the folder above.\n"
    return TIMM.format(
        code=_timm(config, num_outputs(config.task, len(config.class_names))),
        channels="grey" if len(config.mean) == 1 else "in three channels (a grey image three times)",
        mean=", ".join(f"{value:.4g}" for value in config.mean),
        std=", ".join(f"{value:.4g}" for value in config.std),
    )


def _of_seeds(study: Study, configuration: StratumResult, model: ConfirmedModel, config: ModelConfig) -> str:
    low, high = configuration.ci
    seed_sd = configuration.seed_sd
    return OF_SEEDS.format(
        seeds=_seeds(len(configuration.models)),
        without=" (judged without views of each image)" if config.views else "",
        test_auc=configuration.test_auc,
        ci=f"{low:.4f} to {high:.4f}",
        varies=what_varies(configuration),
        seed_sd="" if seed_sd is None else f", standard deviation between seeds {seed_sd:.4f}",
        search_auc=configuration.search_auc,
        optimism=_optimism(configuration.optimism),
        gap="".join(f" {line}" for line in gap_words(configuration)),
        subgroups=_subgroups(study.user_attrs.get(SUBGROUPS), model, views=bool(config.views)),
    )


def _members(config: ModelConfig) -> str:
    """A table of an ensemble's networks."""
    rows = [["trial", "network", "init", "trained"]]
    rows += [[str(m.trial), m.architecture, m.init, _trained(m)] for m in config.members]
    return "\n".join(["### Members", "", *markdown_table(rows)])


def _against_single(ensemble: Ensemble) -> str:
    from medfathom.confirmation.ensemble import ensemble_lines  # noqa: PLC0415  imports pandas

    chosen = "Members, calibration and thresholds were chosen on validation, so that column is optimistic."
    return "".join(f"- {line}\n" for line in [*ensemble_lines(ensemble), chosen])


def _subgroups(kept: Mapping[str, Any] | None, model: ConfirmedModel, *, views: bool) -> str:
    """What `confirm --by` found of this network, judged without views; empty: it was not asked for."""
    if kept is None or kept["trial"] != model.trial:
        return ""
    lines = [*markdown_table(kept["table"]), *(f"- {line}" for line in kept["lines"])]
    without = " (of the same network without views of each image)" if views else ""
    return "\n".join(["", f"Subgroups of the test split{without}:", "", *lines, ""])


def _warning(configuration: StratumResult, model: ConfirmedModel) -> str:
    """First of all: that the model may be worth nothing."""
    warning = chance_warning(configuration, model)
    return f"**{warning}**\n\n" if warning else ""


def _trained(config: ModelConfig) -> str:
    if config.members:
        return "the table of members below says how each was trained"
    if config.unfreeze_depth == 0:
        return "only the head was trained"
    which = "first" if config.strategy == "surgical" else "last"
    what = f"the head and the {which} {config.unfreeze_depth} of the 5 layer groups were trained"
    return what if config.strategy == DEFAULT else f"{what}, by the strategy {config.strategy}"


def _combined(config: ModelConfig) -> str:
    """How the images of a case become one prediction; empty where images are judged."""
    if config.unit == "image":
        return ""
    how = {
        "mean": "the mean of its images' probabilities",
        "max": "the largest of its images' probabilities",
        "noisy_or": "1 minus the product of its images' probabilities of the other class",
        "attention": "a mean of its images' logits, weighted by attention",
    }[config.combine]
    return (
        f"It judges {config.unit}s: give it a folder for each. The probability of a {config.unit} is\n"
        f"{how}, before calibration. All metrics are per {config.unit}, unless they say per image.\n\n"
    )


def _timm(config: ModelConfig, outputs: int) -> str:
    """Code that gives the logits with timm alone."""
    network = 'network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()'
    if config.classifier is not None:
        return f"import timm\n\n{network}\nlogits = network(images)"
    linear = "torch.nn.LazyLinear({})".format
    layers = [linear(config.head_hidden), "torch.nn.ReLU()"] if config.head_hidden else []
    # Dropout has no tensors, but a place in the count of layers.
    before = ["torch.nn.Identity()", *layers, "torch.nn.Identity()"] if layers else ["torch.nn.Identity()"]
    tensors = f'load_file("FOLDER/{HEAD_FILE}")'
    if config.combine == "attention":  # the classifier of `models.attention.AttentionHead`
        tensors = f'{{n[11:]: t for n, t in {tensors}.items() if n.startswith("classifier.")}}'
    return "\n".join(
        [
            "import timm",
            "import torch",
            "from safetensors.torch import load_file",
            "",
            f"{network}  # gives the features that the head takes",
            f"head = torch.nn.Sequential({', '.join([*before, linear(outputs)])})",
            f"head.load_state_dict({tensors})",
            "logits = head(network(images))",
        ]
    )


def _onnx(difference: float | None, config: ModelConfig) -> str:
    if difference is None:
        return ""
    by = "calibrated" if config.calibration == "temperature" else "temperature-scaled"
    other = (
        ""
        if config.calibration == "temperature"
        else f" It does not have the {CALIBRATIONS[config.calibration]} of `medfathom predict`: apply the "
        "`curves` in `medfathom.json` to its logits."
    )
    return (
        "`model.onnx` takes `images` (n, channels, side, side) with values in [0, 1], and returns `logits`\n"
        f"and {by} `probabilities`. On random images these differed from torch's by at most "
        f"{difference:.1g}.{other}\n\n"
    )


def _positive(config: ModelConfig) -> str:
    """What the metrics of two classes are about."""
    if config.positive is None:
        return ""
    return f"Positive class: {config.positive}. AUC, sensitivity, specificity and precision refer to it.\n\n"


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"{number} different seeds"


def _optimism(value: float) -> str:
    return f"{abs(value):.4f} {'above' if value >= 0 else 'below'}"


def _thresholds(config: ModelConfig) -> str:
    if config.task == "multiclass" and not config.thresholds:
        return "There are no thresholds: the class with the highest probability is predicted."
    names = config.class_names[1:] if config.task == "binary" else config.class_names
    each = ", ".join(
        f"`{name}` at {'0.5 (none could be chosen)' if t is None else f'{t:.4f}'} or more"
        for name, t in zip(names, config.thresholds, strict=True)
    )
    how = threshold_words(config.threshold_rule)
    if config.task == "multiclass":
        return (
            "The class with the highest probability is predicted. Sensitivity, specificity, PPV and NPV\n"
            "judge each class against the others (mean over classes), at thresholds chosen by "
            f"{how} on the\nvalidation split: {each}."
        )
    return f"Thresholds, chosen by {how} on the\nvalidation split: {each}."


def _at_bound(config: ModelConfig) -> str:
    """A warning where the fitted temperature is the end of the range that was searched."""
    temperature = config.temperature
    if config.calibration != "temperature" or LOWEST * NEAR < temperature < HIGHEST / NEAR:
        return ""
    why = (
        "the logits say almost nothing about the class, and all probabilities are nearly equal"
        if temperature >= HIGHEST / NEAR
        else "the validation split is classified (almost) without errors, and probabilities are near 0 and 1"
    )
    return f"\n**This temperature is at the end of the searched range ({LOWEST:g} to {HIGHEST:g}):** {why}."


def _groups(model: ConfirmedModel, unit: str) -> str:
    if by_groups(model):
        whose = WHO["images" if unit == "image" else "cases"]
        return f"Intervals treat {whose} as independent, not {unit}s."
    return (
        f"The data set does not name patients. If some of them have several test {unit}s, the intervals are\n"
        "  too narrow."
    )


def _leakage(note: str | None) -> str:
    """What `confirm` noted about leakage; None: an older version, which did not look for it."""
    if note is None:
        return ""
    none = "No image has an exact copy in another split, and no known patient or slide is in two splits"
    return f"- {note or none}.\n"


def _provenance(config: ModelConfig, configuration: StratumResult, model: ConfirmedModel) -> str:
    if config.members:
        which = "; ".join(f"{member.trial}, {member.seed}" for member in config.members)
        return f"| data set fingerprint | {config.dataset_fingerprint} |\n| trials, seeds | {which} |"
    sizes = f"{configuration.n_params:,}, {configuration.depth}, {configuration.macs:,}"
    values = {
        "data set fingerprint": config.dataset_fingerprint,
        "stratum": configuration.stratum,
        "search trial": configuration.search_trial,
        "confirmation trial, seed": f"{model.trial}, {config.seed}",
        "hyperparameters": ", ".join(f"{k} {v}" for k, v in configuration.params.items()) or "defaults",
        "weights from": model.record.init_source or "",
        "parameters, depth, MACs": sizes,
        "trained on": model.record.device or "",
        "versions": ", ".join(f"{k} {v}" for k, v in (model.record.versions or {}).items()),
    }
    return "\n".join(f"| {name} | {value} |" for name, value in values.items())

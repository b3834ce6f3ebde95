"""What a confirmation looks like in JSON; every interval is a 95 % interval, [low, high]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict

if TYPE_CHECKING:
    from medfathom.confirmation.choice import MissingStratum
    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.gap import Gap
    from medfathom.confirmation.views import TestViews
    from medfathom.metrics.calibrators import CalibrationScores

Object = dict[str, object]
Strings = dict[str, str]


class OpeningJson(TypedDict):
    """One opening of the test split: when (local time), by which command, for which models (trial, seed)."""

    when: str
    by: str
    models: list[list[int]]
    n_images: int


class ModelJson(TypedDict):
    """One configuration trained with one seed.

    Attributes:
        trial: its number in the confirmation.
        seed: index of the seed, from 0.
        test_ci: interval of `test_auc`; null: undefined.
        calibration: how its probabilities are calibrated.
        calibrations: what each way is worth on validation, by cross-validation; empty: not known.
        folder: where the model lies; not in reports, which may travel.
    """

    trial: int
    seed: int
    val_auc: float
    val_log_loss: float | None
    test_auc: float
    test_ci: list[float | None]
    calibration: str
    calibrations: list[Annotated[Object, CalibrationScores]]
    folder: NotRequired[str]


class StratumJson(TypedDict):
    """One confirmed configuration, over its seeds; also the mean of each metric of the test split, by name.

    Attributes:
        search_trial: number of the search trial whose hyperparameters these are.
        chosen: whether it is the best of its stratum by validation; else it was asked for by number.
        params: hyperparameter -> value, of those that the definition names; others have their defaults.
        search_auc: validation AUC of the search trial.
        search_value: what it reached of the search's objective; null: that is the AUC. `objective_value`: the
            same on the test split, mean over the seeds.
        val_auc: validation AUC, mean over the seeds.
        test_auc: mean over the seeds.
        seed_sd: standard deviation of the test AUC between seeds; null for one seed.
        sampling_ci: of `test_auc`, were test images (or cases) drawn anew and the networks the same.
        ci: of `test_auc`, were both drawn anew.
        optimism: `search_auc` minus `test_auc`.
        gap: what `optimism` consists of.
        unit: what is judged: `image`, `case`, `volume` or `slide`.
        combine: how the predictions of a case's images become one; null: the unit is the image.
        models: one for each seed.
        datasets: of several data sets: what it is worth on each; the others are then means over them.
    """

    stratum: str
    search_trial: int
    chosen: bool
    architecture: str
    family: str
    init: str
    unfreeze_depth: int
    strategy: str
    n_params: int
    n_trainable_params: int
    depth: int
    macs: int
    params: Object
    search_auc: float
    search_value: float | None
    val_auc: float
    val_log_loss: float | None
    test_auc: float
    seed_sd: float | None
    sampling_ci: list[float]
    ci: list[float]
    optimism: float
    gap: Annotated[Object, Gap] | None
    unit: str
    combine: str | None
    n_test_cases: int | None
    models: list[ModelJson]
    datasets: NotRequired[dict[str, Object]]


class FailureJson(TypedDict):
    """A model whose training failed."""

    stratum: str
    seed: int
    reason: str


class CostJson(TypedDict):
    """What a configuration costs, and its AUC.

    Attributes:
        auc: on the test split, mean over seeds.
        latency_ms: time for one image.
        front: costs for which no other configuration has as much AUC for less.
    """

    stratum: str
    architecture: str
    search_trial: int
    auc: float
    ci: list[float]
    n_params: float
    macs: float
    latency_ms: float
    front: list[str]


class EfficiencyJson(TypedDict):
    """Cost and AUC of every configuration; `device` is where the latency was measured."""

    device: str
    auc: str
    models: list[CostJson]


class ConfirmationJson(TypedDict):
    """Everything known of a study's confirmation.

    Attributes:
        objective: what the search looked for.
        unfinished: that the search is not at its end, in words; null: it is.
        n_test: images of the test split; null: it was not opened.
        positive: the positive class of two; null for other tasks.
        strata: the best on validation first.
        missing: strata without a confirmed configuration.
        efficiency: what AUC costs, where it was measured.
        subgroups: of the test split, with `--by`.
        ensemble: of confirmed models against the best of them, with `--ensemble`.
        views: the best model over flips of each image, with `--views`.
    """

    study: str
    modality: str
    objective: str
    unfinished: str | None
    n_test: int | None
    positive: str | None
    openings: list[OpeningJson]
    strata: list[StratumJson]
    missing: list[Annotated[Strings, MissingStratum]]
    failures: list[FailureJson]
    efficiency: NotRequired[EfficiencyJson]
    subgroups: NotRequired[Object]
    ensemble: NotRequired[Annotated[Object, Ensemble]]
    views: NotRequired[Annotated[Object, TestViews]]


class AucJson(TypedDict):
    """An AUC with its interval, by the bootstrap over patients."""

    auc: float
    ci95: list[float]


class PairJson(TypedDict):
    """Two models on the same images; differences are the first minus the second.

    Attributes:
        delong_p: null where several images belong to one patient.
        delong_p_holm: adjusted by Holm's method over all pairs.
    """

    models: list[str]
    difference: float
    delong_ci95: list[float | None]
    delong_p: float | None
    bootstrap_ci95: list[float]
    bootstrap_p: float
    delong_p_holm: NotRequired[float]
    bootstrap_p_holm: float


ComparedJson = TypedDict(
    "ComparedJson",
    {
        "dataset": str,
        "modality": str,
        "class": str,
        "models": dict[str, AucJson],
        "pairs": list[PairJson],
        "n_images": int,
        "groups": bool,
    },
)
"""A study's confirmed models compared image by image, by how well they recognise one class."""

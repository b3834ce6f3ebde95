"""What a confirmation found, as typed values, and their JSON form.

`confirmation.summary` builds them from the storage. AUCs are in [0, 1]; every interval is a 95 % interval,
(low, high).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from medfathom.confirmation.choice import MissingStratum
from medfathom.confirmation.gap import Gap
from medfathom.confirmation.json_forms import (
    ConfirmationJson,
    CostJson,
    EfficiencyJson,
    ModelJson,
    StratumJson,
)
from medfathom.confirmation.openings import Opening
from medfathom.metrics.calibrators import CalibrationScores
from medfathom.metrics.rules import CalibrationKind
from medfathom.trial.record import SplitMetrics, TrialRecord

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ConfirmedModel:
    """One configuration trained with one seed, judged on the test split.

    Attributes:
        trial: its number in the confirmation.
        seed: index of the seed, from 0; the same index is the same seed for all configurations.
        folder: the model folder that `confirm` keeps.
        val_auc: on the validation split.
        val_log_loss: as training reported it, of probabilities that are not calibrated; None: unknown.
        test_auc: on the test split.
        n_test: images of the test split.
        test: all metrics on the test split.
        validation: all on the validation split, with the model's temperature and thresholds; None: unknown.
        record: what the trial left; its metrics are the validation split's.
        calibration: how its probabilities are calibrated.
        calibrations: what each way is worth on validation, by cross-validation; empty: not known.
        pictures: files in `folder`.
        row: the trial's attributes, without the test split's, as an analysis takes a row of results.
    """

    trial: int
    seed: int
    folder: Path
    val_auc: float
    test_auc: float
    n_test: int
    test: SplitMetrics
    record: TrialRecord
    val_log_loss: float | None = None
    validation: SplitMetrics | None = None
    calibration: CalibrationKind = "temperature"
    calibrations: tuple[CalibrationScores, ...] = ()
    pictures: tuple[str, ...] = ()
    row: Mapping[str, Any]

    def to_dict(self, *, with_folder: bool = True) -> ModelJson:
        """JSON form. Without its folder it can travel to another machine."""
        content: ModelJson = {
            "trial": self.trial,
            "seed": self.seed,
            "val_auc": self.val_auc,
            "val_log_loss": self.val_log_loss,
            "test_auc": self.test_auc,
            "test_ci": [self.test.auc_ci_low, self.test.auc_ci_high],
            "calibration": self.calibration,
            "calibrations": [asdict(each) for each in self.calibrations],
        }
        return {**content, "folder": str(self.folder)} if with_folder else content


@dataclass(frozen=True, kw_only=True)
class StratumResult:
    """One confirmed configuration, over its seeds. Test AUCs are means over the seeds.

    Attributes:
        stratum: its name.
        search_trial: number of the search trial whose hyperparameters these are.
        chosen: whether it is the best of its stratum by validation; else it was asked for by number.
        architecture, family, init: as in a trial's record.
        unfreeze_depth: layer groups trained besides the head, 0 to 5.
        strategy: which of them, and when.
        n_params, n_trainable_params: with the head.
        depth: weighted layers.
        macs: multiply-accumulates for one image.
        params: hyperparameter -> value, of those that the definition names; others have their defaults.
        search_auc: validation AUC of the search trial.
        search_value: what it reached of the search's objective; None: that is the AUC.
        val_auc: validation AUC, mean over the seeds.
        test_auc: mean over the seeds.
        seed_sd: standard deviation of the test AUC between seeds; None for one seed.
        sampling_ci: of `test_auc`, were test images (or cases) drawn anew and the networks the same.
        ci: of `test_auc`, were both drawn anew.
        metric_means: metric -> mean over the seeds on the test split; None where a seed's is undefined.
        models: one for each seed, in the order of seeds.
        gap: what `optimism` consists of; None: an older version confirmed it, there are several data sets, or
            the search was cross-validated.
        datasets: of several data sets: what it is worth on each, as if that were the only one; `test_auc` and
            the others are then means over them, and intervals those of means.
    """

    stratum: str
    search_trial: int
    chosen: bool
    architecture: str
    family: str
    init: str
    unfreeze_depth: int
    strategy: str = "fixed"
    n_params: int
    n_trainable_params: int
    depth: int
    macs: int
    params: Mapping[str, object]
    search_auc: float
    val_auc: float
    test_auc: float
    seed_sd: float | None
    sampling_ci: Interval
    ci: Interval
    metric_means: Mapping[str, float | None]
    models: tuple[ConfirmedModel, ...]
    gap: Gap | None = None
    datasets: Mapping[str, StratumResult] = field(default_factory=dict)
    search_value: float | None = None

    @property
    def each(self) -> Mapping[str, StratumResult]:
        """By data set; where there is one only it has no name here."""
        return self.datasets or {"": self}

    @property
    def unit(self) -> str:
        """What is judged: `image`, or a kind of case."""
        return self.models[0].record.unit or "image"

    @property
    def val_log_loss(self) -> float | None:
        """Log loss on the validation split, mean over the seeds; None: unknown."""
        known = [model.val_log_loss for model in self.models if model.val_log_loss is not None]
        return sum(known) / len(known) if len(known) == len(self.models) else None

    @property
    def optimism(self) -> float:
        """By how much the search's validation AUC exceeds the mean test AUC."""
        return self.search_auc - self.test_auc

    def to_dict(self, *, with_folders: bool = True) -> StratumJson:
        """JSON form."""
        content: StratumJson = {
            "stratum": self.stratum,
            "search_trial": self.search_trial,
            "chosen": self.chosen,
            "architecture": self.architecture,
            "family": self.family,
            "init": self.init,
            "unfreeze_depth": self.unfreeze_depth,
            "strategy": self.strategy,
            "n_params": self.n_params,
            "n_trainable_params": self.n_trainable_params,
            "depth": self.depth,
            "macs": self.macs,
            "params": dict(self.params),
            "search_auc": self.search_auc,
            "search_value": self.search_value,
            "val_auc": self.val_auc,
            "val_log_loss": self.val_log_loss,
            "test_auc": self.test_auc,
            "seed_sd": self.seed_sd,
            "sampling_ci": list(self.sampling_ci),
            "ci": list(self.ci),
            "optimism": self.optimism,
            "gap": None if self.gap is None else self.gap.to_dict(),
            "unit": self.unit,
            "combine": self.models[0].record.combine,
            "n_test_cases": self.models[0].test.n_cases,
            "models": [model.to_dict(with_folder=with_folders) for model in self.models],
        }
        if self.datasets:
            own = {name: one.to_dict(with_folders=with_folders) for name, one in self.datasets.items()}
            content["datasets"] = cast("dict[str, dict[str, object]]", own)
        return cast("StratumJson", {**content, **self.metric_means})


@dataclass(frozen=True)
class FailedModel:
    """A model whose training failed and that was not trained since."""

    stratum: str
    seed: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConfirmationSummary:
    """Everything known of a study's confirmation.

    Attributes:
        study: name of the search study.
        modality: of its images.
        objective: what the search looked for.
        unfinished: that the search is not at its end, in words; None: it is.
        openings: of the test split, in order.
        strata: confirmed configurations, the best on validation first, by the study's rule.
        missing: strata without a confirmed configuration.
        failures: models that failed.
        efficiency: what AUC costs; None: not measured in this call.
    """

    study: str
    modality: str
    unfinished: str | None
    openings: tuple[Opening, ...]
    strata: tuple[StratumResult, ...]
    missing: tuple[MissingStratum, ...]
    failures: tuple[FailedModel, ...]
    efficiency: Efficiency | None = None
    objective: str = "auc"

    @property
    def n_test(self) -> int | None:
        """Images of the test split; None: it was not opened."""
        return self.openings[-1].n_images if self.openings else None

    @property
    def positive(self) -> str | None:
        """The positive class of two; None for other tasks, and where an older version confirmed."""
        return self.strata[0].models[0].test.positive if self.strata else None

    @property
    def best_of_strata(self) -> tuple[StratumResult, ...]:
        """Without configurations that were asked for by number; the best on validation first."""
        return tuple(result for result in self.strata if result.chosen)

    def to_dict(self) -> ConfirmationJson:
        """JSON form, an entry of `confirmed` in `analysis.json`."""
        content: ConfirmationJson = {
            "study": self.study,
            "modality": self.modality,
            "objective": self.objective,
            "unfinished": self.unfinished,
            "n_test": self.n_test,
            "positive": self.positive,
            "openings": [opening.to_dict() for opening in self.openings],
            "strata": [result.to_dict() for result in self.strata],
            "missing": [{"stratum": m.stratum, "reason": m.reason} for m in self.missing],
            "failures": [{"stratum": f.stratum, "seed": f.seed, "reason": f.reason} for f in self.failures],
        }
        return {**content, "efficiency": self.efficiency.to_dict()} if self.efficiency else content


COSTS = {
    "n_params": "parameters",
    "macs": "multiply-accumulates",
    "latency_ms": "time for one image here, ms",
}
"""Kind of cost -> what it is; less is better."""


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What one confirmed configuration costs, and its AUC.

    Attributes:
        stratum, architecture, search_trial: which one it is.
        auc: on the test split, mean over seeds.
        ci: interval of `auc` over test images and seeds.
        n_params: parameters.
        macs: multiply-accumulates for one image.
        latency_ms: for one image, on the CPU; measured as `trial.latency` has it.
    """

    stratum: str
    architecture: str
    search_trial: int
    auc: float
    ci: Interval
    n_params: int
    macs: int
    latency_ms: float

    @property
    def costs(self) -> dict[str, float]:
        """Kind of cost, as in `COSTS` -> its value."""
        return {"n_params": self.n_params, "macs": self.macs, "latency_ms": self.latency_ms}

    def beats(self, other: ModelCost, kind: str) -> bool:
        """Whether it is at least as good and as cheap, and better in one of the two."""
        mine, theirs = self.costs[kind], other.costs[kind]
        no_worse = self.auc >= other.auc and mine <= theirs
        return no_worse and (self.auc > other.auc or mine < theirs)


@dataclass(frozen=True)
class Efficiency:
    """Cost and AUC of every confirmed configuration.

    Attributes:
        device: where the latency was measured.
        models: in the order of the summary's strata.
    """

    device: str
    models: tuple[ModelCost, ...]

    def front(self, kind: str) -> list[ModelCost]:
        """Models for which no other has as much AUC at a lower cost of this kind; cheapest first."""
        front = [m for m in self.models if not any(other.beats(m, kind) for other in self.models)]
        return sorted(front, key=lambda model: model.costs[kind])

    def to_dict(self) -> EfficiencyJson:
        """JSON form."""
        fronts = {kind: self.front(kind) for kind in COSTS}
        models: list[CostJson] = [
            {
                "stratum": m.stratum,
                "architecture": m.architecture,
                "search_trial": m.search_trial,
                "auc": m.auc,
                "ci": list(m.ci),
                "n_params": m.n_params,
                "macs": m.macs,
                "latency_ms": m.latency_ms,
                "front": [kind for kind, front in fronts.items() if m in front],
            }
            for m in self.models
        ]
        return {"device": self.device, "auc": "test, mean over seeds", "models": models}

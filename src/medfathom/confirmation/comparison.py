"""Confirmed models of a study compared image by image, for `analysis.json` and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medfathom.confirmation.find import predictions_file
from medfathom.confirmation.json_forms import ComparedJson
from medfathom.confirmation.paired import FEWEST_IMAGES, ModelComparison, compare_models
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.results import ConfirmationSummary, StratumResult
from medfathom.metrics.unknown import is_absent, is_present

MOST_MODELS = 12
"""Compared with one another, the best by validation: pairs, and so Holm's factor, grow with the square."""


@dataclass(frozen=True)
class ClassComparison:
    """A study's confirmed models compared by how well they recognise one class.

    Attributes:
        study: name of the search study.
        modality: of its images.
        class_name: the class, against all others; of several data sets `NAME: CLASS`.
        comparison: the models are named by their strata.
    """

    study: str
    modality: str
    class_name: str
    comparison: ModelComparison

    def to_dict(self) -> ComparedJson:
        """JSON form, an entry of `model_comparison` in `analysis.json`."""
        compared = self.comparison
        return {
            "dataset": self.study,
            "modality": self.modality,
            "class": self.class_name,
            "models": {name: {"auc": m.auc, "ci95": list(m.ci95)} for name, m in compared.models.items()},
            "pairs": [pair.to_dict() for pair in compared.pairs],
            "n_images": compared.n_images,
            "groups": compared.groups,
        }


def compare_confirmed(summary: ConfirmationSummary) -> list[ClassComparison]:
    """All pairs of confirmed configurations, each through the model of its first seed.

    Returns:
        One for each class with enough test images inside and outside of it. Empty with fewer than two models.
    """
    results = summary.best_of_strata[:MOST_MODELS]
    if len(results) < 2:
        return []
    return [found for name in results[0].each for found in _compared(summary, results, name)]


def _compared(
    summary: ConfirmationSummary, results: Sequence[StratumResult], dataset: str
) -> list[ClassComparison]:
    """On one data set; it has no name where it is the only one."""
    models = {
        result.stratum or f"trial {result.search_trial}": read_predictions(
            predictions_file(result.each[dataset].models[0].folder, "test")
        )
        for result in results
    }
    first = next(iter(models.values()))
    groups = None if first.groups is None else list(first.groups)
    found = []
    for k, class_name in enumerate(first.class_names):
        positive = first.positive[:, k]
        if min(is_present(positive).sum(), is_absent(positive).sum()) >= FEWEST_IMAGES:
            scores = {name: model.probabilities[:, k] for name, model in models.items()}
            comparison = compare_models(positive, scores, groups)
            named = f"{dataset}: {class_name}" if dataset else class_name
            found.append(ClassComparison(summary.study, summary.modality, named, comparison))
    return found

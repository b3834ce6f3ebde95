"""All figures of an analysis, by the name of their files, in the order of the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from medfathom.analysis.pipeline import Analysis, ModalityFindings
from medfathom.analysis.predictors import MACS, PARAMETERS
from medfathom.analysis.questions.ranking import Ranking
from medfathom.analysis.report.critical import critical_difference
from medfathom.analysis.report.curves import auc_by_size, benefit_by_images
from medfathom.analysis.report.dots import attention, one_model, pretraining, strategies, unfreezing
from medfathom.analysis.report.drawing import Drawing, slugs
from medfathom.analysis.report.overview import overview
from medfathom.analysis.report.settings_map import settings_map
from medfathom.analysis.report.size_figures import against, pareto
from medfathom.analysis.report.transfer_map import transfer_map
from medfathom.analysis.report.trial_front import trial_front
from medfathom.analysis.size.association import Association

Files = dict[str, Drawing]
"""File name without its suffix -> figure."""


@dataclass(frozen=True)
class Figures:
    """The figures, by where they stand.

    Attributes:
        overview: on the first screen.
        modalities: modality -> AUC against parameters, the Pareto front, the map of settings.
        others: modality -> AUC against the other predictors, folded away.
        pretraining: what pretraining brings, also against the number of training images.
        resolution: AUC by image size, and what attention brings.
        one_model: what one model for several data sets costs.
        transfer: what weights from other data bring.
        strategies: transfer strategies against `fixed`.
        unfreezing: how far to unfreeze.
        ranking: mean ranks.
        fronts: study -> AUC against the cost of its trials.
    """

    overview: Files = field(default_factory=dict)
    modalities: dict[str, Files] = field(default_factory=dict)
    others: dict[str, Files] = field(default_factory=dict)
    pretraining: Files = field(default_factory=dict)
    resolution: Files = field(default_factory=dict)
    one_model: Files = field(default_factory=dict)
    transfer: Files = field(default_factory=dict)
    strategies: Files = field(default_factory=dict)
    unfreezing: Files = field(default_factory=dict)
    ranking: Files = field(default_factory=dict)
    fronts: dict[str, Files] = field(default_factory=dict)

    def all(self) -> Files:
        """Every figure, in the order of the report."""
        found: Files = dict(self.overview)
        of_settings = (
            self.pretraining,
            self.resolution,
            self.one_model,
            self.transfer,
            self.strategies,
            self.unfreezing,
            self.ranking,
        )
        for each in (*self.modalities.values(), *of_settings):
            found |= each
        for each in (*self.fronts.values(), *self.others.values()):
            found |= each
        return found


def draw_all(analysis: Analysis) -> Figures:
    """Draw what there is something to show of."""
    compared = {
        name: found for name, found in analysis.modalities.items() if isinstance(found, ModalityFindings)
    }
    starts, names = slugs(compared), slugs(told.study for told in analysis.studies)
    scope = analysis.ranking_agreement.scopes["all"]
    return Figures(
        overview=_named("overview", overview(analysis)),
        modalities={name: _of_modality(starts[name], found, analysis) for name, found in compared.items()},
        others={name: _of_predictors(starts[name], found) for name, found in compared.items()},
        pretraining={
            **_named("pretraining", pretraining(analysis)),
            **_named("turning_points", benefit_by_images(analysis)),
        },
        resolution={
            **_named("resolution", auc_by_size(analysis)),
            **_named("attention", attention(analysis)),
        },
        one_model=_named("one_model", one_model(analysis)),
        transfer=_named("transfer", transfer_map(analysis)),
        strategies=_named("strategies", strategies(analysis)),
        unfreezing=_named("unfreezing", unfreezing(analysis)),
        ranking=_named("ranking", critical_difference(scope) if isinstance(scope, Ranking) else None),
        fronts={t.study: _named(f"front_{names[t.study]}", trial_front(t)) for t in analysis.studies},
    )


def _named(name: str, drawing: Drawing | None) -> Files:
    return {} if drawing is None else {name: drawing}


def _of_modality(start: str, found: ModalityFindings, analysis: Analysis) -> Files:
    answer = found.predictors[PARAMETERS.name]
    own = analysis.rows[analysis.rows["modality"] == found.architectures.name]
    first = against(answer) if isinstance(answer, Association) else None
    return {
        **_named(f"{start}_{PARAMETERS.name}", first),
        **_named(f"{start}_pareto", pareto(found.architectures, [PARAMETERS, MACS])),
        **_named(f"{start}_settings", settings_map(found.architectures.name, own)),
    }


def _of_predictors(start: str, found: ModalityFindings) -> Files:
    """The predictors other than the parameter count."""
    answers = {**found.predictors, found.imagenet.predictor.name: found.imagenet}
    slug = slugs(answers)
    return {
        f"{start}_{slug[name]}": against(answer)
        for name, answer in answers.items()
        if isinstance(answer, Association) and name != PARAMETERS.name
    }

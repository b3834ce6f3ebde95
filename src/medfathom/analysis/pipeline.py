"""Rows in, verdicts out: the story of an analysis in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medfathom.analysis.as_html import analysis_html
from medfathom.analysis.as_json import FLAT, HIDDEN, OPTIONAL, plain
from medfathom.analysis.facts import Lookup
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import IMAGENET, PREDICTORS, Predictor, parse_predictor
from medfathom.analysis.questions.attention import AttentionBenefit, attention_benefits
from medfathom.analysis.questions.generalisation import GeneralisationGap, generalisation_gap
from medfathom.analysis.questions.joint import Joint, explained_together, nothing_explained
from medfathom.analysis.questions.moderation import (
    ModalityDifferences,
    Moderation,
    between_modalities,
    within_modality,
)
from medfathom.analysis.questions.one_model import OneModel, price_of_one_model, separate
from medfathom.analysis.questions.pretraining import Benefit, pretraining_benefit
from medfathom.analysis.questions.pretraining_over_datasets import (
    BenefitOverDatasets,
    benefit_over_datasets,
    covariates_of,
)
from medfathom.analysis.questions.pretraining_verdict import PretrainingVerdict, pretraining_verdicts
from medfathom.analysis.questions.ranking import RankingAgreement, ranking_agreement
from medfathom.analysis.questions.resolution import ResolutionStep, resolution_steps
from medfathom.analysis.questions.sensitivity import Changed, sensitivity, under_other_choices
from medfathom.analysis.questions.strategies import StrategyGain, strategy_gains
from medfathom.analysis.questions.transfer import Transfer, transfer_matrix
from medfathom.analysis.questions.turning_point import TurningPoint, turning_points
from medfathom.analysis.questions.unfreezing import (
    DepthsOverDatasets,
    UnfreezeDepths,
    depths_over_datasets,
    unfreeze_depths,
)
from medfathom.analysis.questions.universality import Universality, price_of_universality
from medfathom.analysis.results import Exclusion
from medfathom.analysis.rows import notes_on, prepare
from medfathom.analysis.size.association import Association, NoSlope, Unadjusted, associate
from medfathom.analysis.size.comparable import comparable, with_columns_of
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.size.verdicts import judge
from medfathom.analysis.told import ToldOfStudy

MARGIN = 0.01
"""AUC between the smallest and the largest architecture, below which an effect does not matter."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a modality's answers rest on: data sets, architectures, families, cells, rows of results."""

    datasets: list[str]
    n_datasets: int
    n_architectures: int
    n_families: int
    n_cells: int
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class ModalityFindings:
    """What was found for one modality.

    Attributes:
        architectures: those compared, and their effects.
        counts: of what took part.
        predictors: predictor -> its association with AUC, and the verdict.
        imagenet: whether ImageNet accuracy goes with AUC, over pretrained networks.
        joint: the predictors together.
        moderation: moderator -> whether it changes the slopes.
    """

    architectures: Modality = field(metadata=HIDDEN)
    counts: Counts = field(metadata=FLAT)
    predictors: Mapping[str, Association | NoSlope]
    imagenet: Association | NoSlope
    joint: Joint
    moderation: dict[str, Moderation]


@dataclass(frozen=True, kw_only=True)
class NothingCompared:
    """`ModalityFindings` where no cell compares two architectures: answers without numbers, and why."""

    joint: Joint
    moderation: dict[str, Moderation]
    counts: Counts = field(metadata=FLAT)
    predictors: Mapping[str, NoSlope]
    imagenet: NoSlope


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What an analysis found; its fields are the keys of `analysis.json`.

    Attributes:
        rows: the rows analysed.
        schema: version of these fields.
        exploratory: the rows are search trials; they suggest and confirm nothing.
        margin: AUC over the range of the architectures, below which an effect does not matter.
        seed: of everything random.
        permutations: arrangements drawn where all are too many.
        exclusions: rows left out, and why.
        notes: what a reader must know of the rows.
        modalities: by name.
        modality_difference: predictor -> whether its slopes differ between modalities.
        pretraining: what pretraining does in each modality and over all data sets, in a word.
        pretraining_benefit: by data set and setting.
        pretraining_over_datasets: the same, averaged over data sets.
        transfer: weights that were trained on other data, by source and target.
        strategies: each transfer strategy against `fixed`, by data set and setting.
        turning_points: the benefit against the number of training images.
        resolution: each image size against the largest.
        attention: networks with an attention module against the same without.
        unfreeze_depth: by data set and init.
        unfreezing_over_datasets: the depths' ranks, wins and mean AUC over data sets, by init.
        ranking_agreement: between data sets.
        universality: what one architecture for all data sets costs, chosen by validation.
        one_model: what one model for several data sets costs, for each collection of data sets.
        generalisation_gap: training AUC minus the AUC analysed.
        confirmed: confirmed studies, where there are any; as they are in JSON or dataclasses.
        model_comparison: their models compared image by image, likewise.
        studies: what must be told of the studies that the rows come from.
    """

    rows: pd.DataFrame = field(metadata=HIDDEN)
    schema: int = 2
    exploratory: bool
    margin: float
    seed: int
    permutations: int
    exclusions: list[Exclusion]
    notes: list[str]
    modalities: dict[str, ModalityFindings | NothingCompared]
    modality_difference: dict[str, ModalityDifferences]
    pretraining: list[PretrainingVerdict]
    pretraining_benefit: list[Benefit]
    pretraining_over_datasets: list[BenefitOverDatasets]
    transfer: list[Transfer]
    strategies: list[StrategyGain]
    turning_points: list[TurningPoint]
    resolution: list[ResolutionStep]
    attention: list[AttentionBenefit]
    unfreeze_depth: list[UnfreezeDepths]
    unfreezing_over_datasets: list[DepthsOverDatasets]
    ranking_agreement: RankingAgreement
    universality: Universality
    one_model: list[OneModel]
    generalisation_gap: GeneralisationGap
    confirmed: Sequence[object] | None = field(default=None, metadata=OPTIONAL)
    model_comparison: Sequence[Any] | None = field(default=None, metadata=OPTIONAL)
    studies: Sequence[ToldOfStudy] = ()

    def to_dict(self) -> dict[str, object]:
        """The content of `analysis.json`: only finite numbers, texts, lists, mappings and None."""
        content: dict[str, object] = plain(self)
        return content

    def _repr_html_(self) -> str:
        """In a notebook: the verdicts."""
        return analysis_html(self)


def analyze(
    frame: pd.DataFrame,
    *,
    margin: float = MARGIN,
    predictors: Sequence[str] = (),
    exploratory: bool = False,
    permutations: int = 9_999,
    draws: int = 12_000,
    seed: int = 0,
    exclusions: Iterable[Exclusion] = (),
    lookup: Lookup | None = None,
) -> Analysis:
    """Answer the study's questions from a table of results.

    Args:
        frame: one row per result: `architecture dataset modality auc`, and what else `results.COLUMNS` names.
        margin: AUC over the range of the architectures below which an effect is negligible.
        predictors: asked about beside parameters and depth: a column of numbers (`macs`, `year:linear`), or a
            column and one of its values (`family=resnet`), which is compared with all others.
        exploratory: the rows are search trials; everything is labelled so.
        permutations: arrangements drawn where all are too many.
        draws: simulated data sets at each family variance, from which the calibration is had.
        seed: of everything random; the same seed gives the same numbers.
        exclusions: rows left out before, to be counted with those left out here.
        lookup: architecture name -> facts, by default the catalog's.

    Raises:
        ResultsError: in one line, for rows that cannot be used.
    """
    settings = Settings(permutations, draws, seed)
    rows, left_out = prepare(frame, lookup)
    asked = PREDICTORS | {
        p.name: p for p in (parse_predictor(text, list(map(str, rows))) for text in predictors)
    }
    rows = with_columns_of(rows, asked.values())
    with threadpool_limits(1):  # the matrices are tiny: threads of BLAS only wait for one another
        return _analysed(rows, [*exclusions, *left_out], margin, exploratory, settings, asked)


def _analysed(
    rows: pd.DataFrame,
    excluded: list[Exclusion],
    margin: float,
    exploratory: bool,
    settings: Settings,
    asked: Mapping[str, Predictor],
) -> Analysis:
    parts = {str(name): part for name, part in rows.groupby("modality", sort=True)}
    reduced = {name: modality_of(name, part) for name, part in parts.items()}
    compared = {name: modality for name, modality in reduced.items() if modality is not None}
    benefits = pretraining_benefit(rows, settings.coarse, margin)
    findings = _findings(parts, compared, margin, settings, asked)
    return Analysis(
        rows=rows,
        exploratory=exploratory,
        margin=margin,
        seed=settings.seed,
        permutations=settings.permutations,
        exclusions=excluded + _without_company(parts, compared),
        notes=notes_on(rows),
        modalities={
            name: findings.get(name) or _nothing_compared(parts[name], margin, asked) for name in parts
        },
        modality_difference=between_modalities(compared, settings.coarse),
        pretraining=pretraining_verdicts(rows, settings.coarse, margin),
        pretraining_benefit=benefits,
        pretraining_over_datasets=benefit_over_datasets(
            benefits, rows, covariates_of(rows), settings.coarse, margin
        ),
        transfer=transfer_matrix(rows, settings.coarse, margin),
        strategies=strategy_gains(rows, settings.coarse, margin),
        turning_points=turning_points(rows, settings.coarse, margin),
        resolution=resolution_steps(rows, settings.coarse, margin),
        attention=attention_benefits(rows, settings.coarse, margin),
        unfreeze_depth=unfreeze_depths(rows, settings.coarse),
        unfreezing_over_datasets=depths_over_datasets(rows, settings.coarse),
        ranking_agreement=ranking_agreement(rows, draws=settings.permutations, seed=settings.seed),
        universality=price_of_universality(separate(rows)),
        one_model=price_of_one_model(rows),
        generalisation_gap=generalisation_gap(rows, settings.coarse),
    )


def _without_company(parts: Mapping[str, pd.DataFrame], compared: Mapping[str, Modality]) -> list[Exclusion]:
    """The rows that stand alone in their cell, by modality."""
    found = []
    for name, part in parts.items():
        if name not in compared:
            found.append(
                Exclusion(
                    f"{name}: no other architecture with the same data, init and unfreeze depth", len(part)
                )
            )
        elif compared[name].n_rows < len(part):
            alone = len(part) - compared[name].n_rows
            found.append(Exclusion(f"{name}: the only architecture of its cell", alone))
    return found


def _findings(
    parts: Mapping[str, pd.DataFrame],
    compared: Mapping[str, Modality],
    margin: float,
    settings: Settings,
    asked: Mapping[str, Predictor],
) -> dict[str, ModalityFindings]:
    """Each modality's answers; the verdicts are reached together, since tests are adjusted over all.

    ImageNet accuracy, where it was not asked for, is a question of its own, adjusted over modalities.
    """
    also = {} if IMAGENET.name in asked else {IMAGENET.name: IMAGENET}
    changed = {name: under_other_choices(modality, parts[name]) for name, modality in compared.items()}
    judged = {
        (name, predictor): answer
        for family in (asked, also)
        for (name, predictor), answer in judge(
            {
                (name, p.name): _associated(modality, parts[name], changed[name], p, margin, settings)
                for name, modality in compared.items()
                for p in family.values()
            }
        ).items()
    }
    return {
        name: ModalityFindings(
            architectures=modality,
            counts=_counts(modality),
            predictors={p: judged[name, p] for p in asked},
            imagenet=judged[name, IMAGENET.name],
            joint=explained_together(modality, settings.coarse),
            moderation=within_modality(name, parts[name], settings.coarse),
        )
        for name, modality in compared.items()
    }


def _associated(
    modality: Modality,
    part: pd.DataFrame,
    changed: tuple[Changed, ...],
    predictor: Predictor,
    margin: float,
    settings: Settings,
) -> Unadjusted | NoSlope:
    """One predictor in one modality, over the networks that can be compared in it.

    `changed` is the modality under other choices; where networks lack the predictor, the rest has its own.
    """
    own, rows, notes = comparable(modality, part, predictor)
    if own is None:
        return NoSlope(predictor=predictor, margin=margin, reason=notes[-1], notes=notes)
    answer = associate(own, predictor, margin=margin, settings=settings)
    choices = changed if own is modality else under_other_choices(own, rows)
    return replace(answer, notes=notes, sensitivity=sensitivity(own, choices, predictor, settings))


def _counts(modality: Modality) -> Counts:
    return Counts(
        datasets=sorted(modality.per_dataset),
        n_datasets=len(modality.per_dataset),
        n_architectures=len(modality.effects.names),
        n_families=len(modality.family_names),
        n_cells=modality.effects.n_cells,
        n_rows=modality.n_rows,
    )


def _nothing_compared(part: pd.DataFrame, margin: float, asked: Mapping[str, Predictor]) -> NothingCompared:
    reason = "no two architectures were trained with the same data, init and unfreeze depth"
    return NothingCompared(
        joint=nothing_explained(reason),
        moderation={},
        counts=Counts(
            datasets=sorted(part["dataset"].unique()),
            n_datasets=part["dataset"].nunique(),
            n_architectures=part["architecture"].nunique(),
            n_families=part["family"].nunique(),
            n_cells=0,
            n_rows=0,
        ),
        predictors={
            name: NoSlope(predictor=predictor, margin=margin, reason=reason)
            for name, predictor in asked.items()
        },
        imagenet=NoSlope(predictor=IMAGENET, margin=margin, reason=reason),
    )

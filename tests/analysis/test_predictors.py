"""Predictors beside parameters and depth, each on the smallest table that shows what could go wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze, lookup, study
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import (
    ATTENTION,
    IMAGENET,
    MACS,
    PARAMETERS,
    TRAINABLE,
    YEAR,
    Predictor,
    parse_predictor,
)
from medfathom.analysis.report.sentences import effect_words
from medfathom.analysis.report.tables import tables
from medfathom.analysis.rows import prepare
from medfathom.analysis.size.association import Association, NoSlope, Unadjusted, associate
from medfathom.analysis.size.comparable import comparable, with_columns_of
from medfathom.analysis.size.inference import Settings
from medfathom.errors import ResultsError
from medfathom.models.imagenet import imagenet_top1

QUICK = Settings(permutations=99, draws=300)


def table(*results: tuple[str, str, float], **columns: object) -> pd.DataFrame:
    """One data set; results are (architecture, init, AUC)."""
    rows = pd.DataFrame(results, columns=["architecture", "init", "auc"])
    return rows.assign(dataset="chest", modality="CXR", **columns)


def compared(frame: pd.DataFrame, predictor: Predictor) -> tuple[Modality | None, tuple[str, ...]]:
    rows = with_columns_of(prepare(frame)[0], [predictor])
    whole = modality_of("CXR", rows)
    assert whole is not None
    found, _, notes = comparable(whole, rows, predictor)
    return found, notes


def slope(frame: pd.DataFrame, predictor: Predictor) -> Unadjusted | NoSlope:
    found, notes = compared(frame, predictor)
    assert found is not None, notes
    return associate(found, predictor, margin=0.01, settings=QUICK)


WEIGHTS = ("resnet50", "imagenet:a1_in1k", 0.90), ("resnet50", "imagenet:tv_in1k", 0.86)
OTHERS = ("vgg16", "imagenet:tv_in1k", 0.84), ("densenet121", "imagenet:ra_in1k", 0.88)


def test_imagenet_accuracy_is_of_the_weights_and_not_of_the_network() -> None:
    """Two sets of weights of ResNet-50 are two networks of one family, 4 points apart."""
    found, _ = compared(table(*WEIGHTS, *OTHERS), IMAGENET)
    assert found is not None
    values = dict(zip(found.effects.names, found.values_of(IMAGENET), strict=True))
    one, other = values["resnet50 (imagenet:a1_in1k)"], values["resnet50 (imagenet:tv_in1k)"]
    assert (one, other) == (imagenet_top1("resnet50", "a1_in1k"), imagenet_top1("resnet50", "tv_in1k"))
    assert one - other > 3
    codes = dict(zip(found.effects.names, found.families.tolist(), strict=True))
    assert codes["resnet50 (imagenet:a1_in1k)"] == codes["resnet50 (imagenet:tv_in1k)"]


def test_networks_from_scratch_take_no_part_in_imagenet_accuracy() -> None:
    scratch = [(name, "random", 0.5 + i / 10) for i, name in enumerate(("vgg16", "resnet50", "densenet121"))]
    alone, mixed = (
        slope(table(*WEIGHTS, *OTHERS), IMAGENET),
        slope(table(*WEIGHTS, *OTHERS, *scratch), IMAGENET),
    )
    assert alone.slope == mixed.slope
    nothing, notes = compared(table(*scratch), IMAGENET)
    assert nothing is None
    assert "pretrained" in notes[-1]


def test_weights_that_were_not_judged_on_imagenet_are_named() -> None:
    found, notes = compared(table(*WEIGHTS, *OTHERS, ("vgg19", "imagenet:mine", 0.7)), IMAGENET)
    assert found is not None
    assert len(found.effects.names) == 4
    assert any("vgg19" in note for note in notes)


def test_macs_are_not_parameters() -> None:
    """DenseNet-121 has 17 times fewer parameters than VGG-16, and 5 times fewer multiply-accumulates."""
    nets = [(name, "random", 0.8) for name in ("vgg16", "densenet121", "mobilenetv2_100", "resnet50")]
    found, _ = compared(table(*nets), MACS)
    assert found is not None
    one, other = (dict(zip(found.effects.names, found.values_of(p), strict=True)) for p in (MACS, PARAMETERS))
    assert 4 < 10 ** (one["vgg16"] - one["densenet121"]) < 7
    assert 15 < 10 ** (other["vgg16"] - other["densenet121"]) < 19


def test_frozen_networks_have_no_logarithm_of_trainable_parameters() -> None:
    nets = [
        (name, "random", 0.8 + i / 50) for i, name in enumerate(("vgg16", "vgg19", "resnet50", "resnet18"))
    ]
    found, notes = compared(table(*nets, n_trainable_params=[0.0, 2e3, 3e3, 4e3]), TRAINABLE)
    assert found is not None
    answer = associate(found, TRAINABLE, margin=0.01, settings=QUICK)
    assert isinstance(answer, NoSlope)
    assert "1 of 4" in answer.reason
    assert not notes


def test_the_year_is_the_familys_and_unknown_families_are_left_out_by_name() -> None:
    nets = [(name, "random", 0.8) for name in ("vgg16", "resnet50", "densenet121", "vit_base_patch16_224")]
    own = table(("mine", "random", 0.9), n_params=1e7, depth=30, family="mine")
    found, notes = compared(pd.concat([table(*nets), own]), YEAR)
    assert found is not None
    years = dict(zip(found.effects.names, found.values_of(YEAR), strict=True))
    assert years["vgg16"] < years["densenet121"] < years["vit_base_patch16_224"]
    assert "mine" not in years
    assert notes == ("year of publication is not known for mine",)


def test_a_contrast_is_the_difference_of_two_means() -> None:
    aucs = {"vgg16": 0.80, "vgg19": 0.82, "resnet50": 0.86, "resnet18": 0.88, "densenet121": 0.81}
    frame = table(*[(name, "random", auc) for name, auc in aucs.items()])
    found = slope(frame, parse_predictor("family=resnet", ["family"]))
    assert isinstance(found, Unadjusted)
    expected = np.mean([0.86, 0.88]) - np.mean([0.80, 0.82, 0.81])
    # families are random: their means weigh, not their members
    assert found.effect == pytest.approx(expected, abs=0.01)
    nets = [("vit_base_patch16_224", "random", 0.9), ("swin_tiny_patch4_window7_224", "random", 0.92)]
    attention = slope(pd.concat([frame, table(*nets)]), ATTENTION)
    assert isinstance(attention, Unadjusted)
    assert attention.effect > 0.05


def test_a_value_that_no_row_has_is_refused() -> None:
    frame = table(("resnet50", "random", 0.8), ("vgg16", "random", 0.8), ("vgg19", "random", 0.9))
    with pytest.raises(ResultsError, match="no row has family = 'resnt'; did you mean"):
        compared(frame, parse_predictor("family=resnt", ["family"]))


def test_holm_is_over_all_that_was_asked() -> None:
    rng = np.random.default_rng(0)
    nets = ("vgg16", "resnet50", "densenet121", "mobilenetv2_100", "inception_v3")
    frame = table(
        *[
            (name, "random", float(auc))
            for name, auc in zip(nets, 0.8 + 0.01 * rng.normal(size=5), strict=True)
        ]
    )
    found = analyze(frame, predictors=["macs", "year"]).modalities["CXR"].predictors
    assert set(found) == {"log10_params", "log2_depth", "log10_macs", "year"}
    least = min((answer.p_value, answer.p_holm) for answer in found.values())
    assert least[1] == pytest.approx(min(1.0, 4 * least[0]))


@pytest.mark.parametrize("factor", [1e10, 1e-6])
def test_the_unit_of_a_predictor_changes_no_answer(factor: float) -> None:
    """Before, slopes around 1e-12 were found to 1e-12, and every curve on them had p = 1."""
    rows = study(slope=0.02, family=0.003, settings=1, seeds=1)
    values = dict(zip(sorted(rows["architecture"].unique()), np.arange(10.0) ** 1.5 + 1, strict=True))
    rows = rows.assign(one=rows["architecture"].map(values))
    other = rows.assign(other=factor * rows["one"])
    found = analyze(other, predictors=["one", "other"], lookup=lookup).modalities["CXR"].predictors
    first, second = found["one"], found["other"]
    assert isinstance(first, Association)
    assert isinstance(second, Association)
    assert second.effect == pytest.approx(first.effect, rel=1e-5)
    assert second.effect_ci95 == pytest.approx(first.effect_ci95, rel=1e-5)
    assert second.p_value == pytest.approx(first.p_value, rel=1e-5)
    assert vars(second.diagnostics.curve) == pytest.approx(vars(first.diagnostics.curve), rel=1e-5)
    one, two = first.diagnostics.architecture, second.diagnostics.architecture
    assert one is not None
    assert two is not None
    assert (two.left_out, two.p_value) == (one.left_out, pytest.approx(one.p_value, rel=1e-5))


def test_a_small_slope_is_not_written_as_zero() -> None:
    """Before: `+0.0000 for each unit of flops`."""
    rows = study(slope=0.02, noise=0.0005, settings=1, seeds=1)
    found = analyze(rows.assign(flops=100.0 * rows["n_params"]), predictors=["flops"], lookup=lookup)
    answer = found.modalities["CXR"].predictors["flops"]
    assert isinstance(answer, Association)
    assert f"+{answer.slope:.2g} for each unit of flops".replace("-", "−") in effect_words(answer)
    (numbers,) = [table for table in tables(found) if table.title == "CXR: all numbers"]
    slopes = {row[0]: row[3] for row in numbers.rows if "slope" in row[0]}
    assert "0.0000" not in " ".join(slopes.values())

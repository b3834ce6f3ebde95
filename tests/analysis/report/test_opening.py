"""What a report opens with says whom it applies to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_studies import analyze, lookup, study, unheard_of
from medfathom.analysis.as_html import analysis_html
from medfathom.analysis.pipeline import ModalityFindings
from medfathom.analysis.report.opening import opening
from medfathom.analysis.report.sentences import verdicts
from medfathom.analysis.size.association import Association
from medfathom.analysis.told import ToldOfStudy
from medfathom.definitions.config import Asks


@pytest.mark.parametrize("networks", [1, 10])
def test_one_networks_seeds_speak_for_that_network_only(networks: int) -> None:
    """Before, an interval over the seeds of vgg16 was one of `1 network, 1 data set`."""
    rows = study(seeds=3, settings=2)
    kept = rows[rows["architecture"].isin(sorted(rows["architecture"].unique())[-networks:])]
    sized = kept.assign(
        setting="image_size=" + (32 * (kept["unfreeze_depth"] + 1)).astype(str), unfreeze_depth=5
    )
    asks: Asks = "resolution"
    found = opening(replace(analyze(sized, lookup=lookup), studies=[ToldOfStudy("s", asks=asks)]))
    assert found is not None
    told = "over 3 seeds; this applies to xception only)."
    assert found.answer.endswith(told) == (networks == 1)
    assert "95 % interval" in found.answer


def test_no_more_networks_are_asked_for_where_the_slope_is_significant() -> None:
    """Before: +0.08 AUC, p < .001, depth explains it as well; to find a difference, 12 would be needed."""
    rows = study(settings=1, seeds=1, noise=0.001)
    sizes = {
        name: (1e7 * 1.5**i, 16 * 1.3**i) for i, name in enumerate(sorted(rows["architecture"].unique()))
    }
    for place, column in enumerate(("n_params", "depth")):
        rows[column] = [
            round(sizes[name][place] * (1 + 0.02 * (i % 3))) for i, name in enumerate(rows["architecture"])
        ]
    rows["auc"] = 0.6 + 0.02 * np.log2(rows["depth"])
    found = analyze(unheard_of(rows.assign(family="one")))
    said = verdicts("CXR", found.modalities["CXR"])["log10_params"]
    assert "depth explains it about as well" in said
    assert "would be needed" not in said
    modality = found.modalities["CXR"]
    assert isinstance(modality, ModalityFindings)
    sure = {
        n: replace(a, p_holm=0.0002) for n, a in modality.predictors.items() if isinstance(a, Association)
    }
    text = analysis_html(replace(found, modalities={"CXR": replace(modality, predictors=sure)}))
    assert "&lt; 0.001" in text
    assert ">0.000<" not in text

"""What a report opens with says whom it applies to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_studies import analyze, lookup, study
from medfathom.analysis.report.opening import opening
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

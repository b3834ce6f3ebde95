"""Made-up studies for the tests of the analysis."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd

from medfathom import analysis

PAPER = {
    "vgg16": ("vgg", 138_357_544, 16),
    "vgg19": ("vgg", 143_667_240, 19),
    "resnet50": ("resnet", 25_557_032, 50),
    "resnet101": ("resnet", 44_549_160, 101),
    "resnet152": ("resnet", 60_192_808, 152),
    "inception_v3": ("inception_v3", 23_834_568, 48),
    "xception": ("xception", 22_855_952, 37),
    "densenet121": ("densenet", 7_978_856, 121),
    "densenet169": ("densenet", 14_149_480, 169),
    "densenet201": ("densenet", 20_013_928, 201),
}

analyze = partial(analysis.analyze, draws=1_500, permutations=999)
"""The analysis with a coarse calibration: seconds, not minutes, for all tests."""

COLUMNS = [
    "architecture",
    "dataset",
    "modality",
    "auc",
    "init",
    "unfreeze_depth",
    "seed",
    "n_params",
    "depth",
]
COLUMNS += ["family"]


def lookup(name: str) -> SimpleNamespace:
    family, n_params, depth = PAPER[name]
    return SimpleNamespace(name=name, family=family, n_params=n_params, depth=depth, macs=100 * n_params)


def study(
    *,
    slope: float = 0.0,
    datasets: dict[str, str] | None = None,
    settings: int = 2,
    seeds: int = 2,
    inits: tuple[str, ...] = ("imagenet",),
    noise: float = 0.002,
    family: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Results of the paper's ten networks; `slope` is AUC per tenfold of parameters."""
    rng = np.random.default_rng(seed)
    families = {f: family * rng.standard_normal() for f, _, _ in PAPER.values()}
    own = {name: noise * rng.standard_normal() for name in PAPER}
    rows = []
    for dataset, modality in (datasets or {"chest": "CXR"}).items():
        for name, (kin, n_params, depth) in PAPER.items():
            for init in inits:
                for unfreeze_depth in range(settings):
                    for number in range(seeds):
                        auc = 0.85 + slope * (np.log10(n_params) - 7.5) + families[kin] + own[name]
                        auc += 0.01 * unfreeze_depth + (0.02 if init != "random" else 0.0)
                        auc += noise / 2 * rng.standard_normal()
                        rows.append(
                            (name, dataset, modality, auc, init, unfreeze_depth, number, n_params, depth, kin)
                        )
    return pd.DataFrame(rows, columns=COLUMNS).assign(setting="")


def unheard_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with names that no catalog knows, so that sizes may be made up."""
    return frame.assign(architecture="own-" + frame["architecture"])

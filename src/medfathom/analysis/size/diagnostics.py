"""What a straight line through all architectures may hide: a bend, one network that decides, an outlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from medfathom.analysis.effects import Effects, Floats, Ints
from medfathom.analysis.size.design import indicators
from medfathom.analysis.size.inference import Both, OverDatasets, SlopeInference
from medfathom.analysis.size.slope import MixtureSlope

DECIDES = 0.2
"""A slope whose p-value rises above this without one architecture rests on that architecture."""

FEWEST_LEFT = 4
"""Architectures that must be left for a slope without one of them."""


@dataclass(frozen=True)
class Curve:
    """A parabola instead of the line.

    Attributes:
        p_value: of "the line is straight" (least squares, Student's t).
        reach: AUC between the lowest and the highest point of the parabola over the range.
        turn: AUC by which it rises before and falls after its highest point inside the range (or the other
            way round), the lesser of the two; 0 where it does not turn.
    """

    p_value: float
    reach: float
    turn: float


@dataclass(frozen=True)
class Without:
    """The slope without one architecture, or without one family.

    Attributes:
        left_out: its name.
        slope: AUC per unit of the predictor.
        p_value: two-sided, by Student's t; 1 where the slope has changed its sign.
    """

    left_out: str
    slope: float
    p_value: float

    @property
    def decides(self) -> bool:
        """Whether little is left of the slope."""
        return self.p_value > DECIDES


@dataclass(frozen=True)
class Diagnostics:
    """How far a slope rests on its assumptions.

    Attributes:
        curve: None where architectures are too few for one.
        architecture: the one without which the slope is least certain; None where they are too few.
        family: likewise; None for fewer than three families, or where each architecture is its own.
        robust_slope: the median of the slopes between all pairs (Theil 1950, Sen 1968).
    """

    curve: Curve | None
    architecture: Without | None
    family: Without | None
    robust_slope: float


def diagnose(
    effects: Effects, x: Floats, families: Ints, family_names: Sequence[str], inference: SlopeInference
) -> Diagnostics:
    """Look behind the slope of effects on a predictor `x` (n,), families (n,) being codes of their names."""
    ratio = _family_ratio(inference)
    singles = {name: np.arange(len(x)) == i for i, name in enumerate(effects.names)}
    groups = {name: families == code for code, name in enumerate(family_names)}
    several = 3 <= len(family_names) < len(x)
    return Diagnostics(
        curve=curve_of(effects, x),
        architecture=_least_certain(effects, x, families, ratio, singles),
        family=_least_certain(effects, x, families, ratio, groups) if several else None,
        robust_slope=pairwise_slope(effects, x),
    )


def _family_ratio(inference: SlopeInference) -> float:
    """Family variance over architecture variance, where it is likeliest; 0 for permutations."""
    if isinstance(inference, OverDatasets):
        return _family_ratio(inference.within)
    if isinstance(inference, Both):
        return _family_ratio(inference.main)
    return inference.likeliest_ratio if isinstance(inference, MixtureSlope) else 0.0


def curve_of(effects: Effects, x: Floats) -> Curve | None:
    """The parabola through the effects."""
    groups, centred = indicators(effects.component), (x - x.mean()) / _unit(x)
    X = np.column_stack([groups, centred, centred**2])
    df = len(x) - X.shape[1]
    if df < 1 or np.linalg.matrix_rank(X, tol=1e-8) < X.shape[1]:
        return None
    inverse = np.linalg.inv(X.T @ X)
    coefficients = inverse @ X.T @ effects.values
    residual = effects.values - X @ coefficients
    slope, bend = coefficients[-2:]
    error = float(np.sqrt(residual @ residual / df * inverse[-1, -1]))
    p_value = float(2 * stats.t.sf(abs(bend) / error, df)) if error > 1e-12 else float(abs(bend) < 1e-12)
    ends = np.array([centred.min(), centred.max()])
    heights = slope * ends + bend * ends**2
    top = -slope / (2 * bend) if abs(bend) > 1e-12 else np.inf
    if not ends[0] < top < ends[1]:
        return Curve(p_value, float(abs(np.diff(heights)[0])), 0.0)
    sides = np.abs(heights - (slope * top + bend * top**2))
    return Curve(p_value, float(sides.max()), float(sides.min()))


def _least_certain(
    effects: Effects, x: Floats, families: Ints, ratio: float, parts: dict[str, np.ndarray]
) -> Without | None:
    """The part without which the slope's p-value is the highest."""
    all_in = slope_by_gls(effects.values, x, effects.component, families, ratio)
    found = []
    for name, part in parts.items():
        rest = ~part
        own = slope_by_gls(effects.values[rest], x[rest], effects.component[rest], families[rest], ratio)
        if own is not None and all_in is not None:
            same = np.sign(own[0]) == np.sign(all_in[0])
            found.append(Without(name, own[0], own[1] if same else 1.0))
    return max(found, key=lambda one: one.p_value, default=None)


def slope_by_gls(
    values: Floats, x: Floats, component: Ints, families: Ints, ratio: float
) -> tuple[float, float] | None:
    """Slope and p-value for a known ratio of family to architecture variance; None where there is none."""
    unit = _unit(x)
    X = np.column_stack([indicators(component), (x - x.mean()) / unit])
    df = len(x) - X.shape[1]
    if len(x) < FEWEST_LEFT or df < 1 or np.linalg.matrix_rank(X, tol=1e-8) < X.shape[1]:
        return None
    Z = indicators(families)
    root = np.linalg.cholesky(ratio * Z @ Z.T + np.eye(len(x)))
    design, outcome = np.linalg.solve(root, X), np.linalg.solve(root, values)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ outcome
    residual = outcome - design @ coefficients
    error = float(np.sqrt(residual @ residual / df * inverse[-1, -1]))
    effect = float(coefficients[-1])
    p_value = float(2 * stats.t.sf(abs(effect) / error, df)) if error > 1e-12 else float(abs(effect) < 1e-12)
    return effect / unit, p_value


def _unit(x: Floats) -> float:
    """The range of a predictor: coefficients are then AUCs, whatever unit the predictor has."""
    return float(np.ptp(x)) or 1.0


def pairwise_slope(effects: Effects, x: Floats) -> float:
    """Theil and Sen's slope over the pairs that can be compared and differ in the predictor."""
    slopes = [
        (effects.values[j] - effects.values[i]) / (x[j] - x[i])
        for i, j in combinations(range(len(x)), 2)
        if effects.component[i] == effects.component[j] and abs(x[i] - x[j]) > 1e-9
    ]
    return float(np.median(slopes))

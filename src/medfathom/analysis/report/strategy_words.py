"""Which transfer strategy: one sentence a setting, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.analysis.questions.strategies import StrategyGain
from medfathom.analysis.report.numbers import interval, number, p_value
from medfathom.text import number_of

if TYPE_CHECKING:
    from medfathom.analysis.pipeline import Analysis

WORDS = {
    "better": "better than",
    "worse": "worse than",
    "negligible": "negligibly different from",
    "inconclusive": "inconclusive against",
}
MOST_SETTINGS = 4
"""Settings that get a sentence; the table has all."""


def strategy_sentences(analysis: Analysis) -> list[str]:
    """For each setting: which strategies are better or worse than `fixed`, and of which nothing is known."""
    settings: dict[tuple[str, str, str], list[StrategyGain]] = {}
    for each in analysis.strategies:
        if each.architecture is None:
            settings.setdefault((each.dataset, each.init, each.unfreeze_depth), []).append(each)
    return [_sentence(*key, gains) for key, gains in list(settings.items())[:MOST_SETTINGS]]


def _sentence(dataset: str, init: str, depth: str, gains: list[StrategyGain]) -> str:
    said = []
    for word, against in WORDS.items():
        own = sorted((g for g in gains if g.mean.verdict == word), key=lambda g: -g.mean.benefit)
        if own:
            said.append(f"{', '.join(map(_with_interval, own))} {against} fixed")
    return f"Transfer strategy ({dataset}, {init}, unfreeze depth {depth}): {'; '.join(said)}."


def _with_interval(gain: StrategyGain) -> str:
    return f"{gain.strategy} ({number(gain.mean.benefit)} AUC, 95 % interval {interval(gain.mean.ci95)})"


def strategy_table(analysis: Analysis) -> tuple[list[str], list[list[str]], str]:
    """Headings, rows and note."""
    rows = [
        [
            each.dataset,
            each.init,
            each.unfreeze_depth,
            each.strategy,
            each.architecture or "all",
            number(each.mean.benefit),
            interval(each.mean.ci95),
            p_value(each.mean.p_holm),
            each.mean.verdict,
            number_of(each.mean.n, each.mean.unit),
        ]
        for each in analysis.strategies
    ]
    headings = ["data set", "init", "depth", "strategy", "architecture", "gain", "95 % interval", "p (Holm)"]
    note = (
        "AUC with the strategy minus AUC with `fixed`, paired by architecture, init, unfreeze depth and "
        "seed. The interval is over architectures, with families as random effects. For one architecture it "
        "is over seeds."
    )
    return [*headings, "verdict", "over"], rows, note

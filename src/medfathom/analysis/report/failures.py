"""How a study's trials fail, in words and as a table: by count and by stratum."""

from __future__ import annotations

from medfathom.analysis.told import FailureSignature, ToldOfStudy
from medfathom.text import number_of, stratum_words

MOST_STRATA = 2
"""Strata that a sentence names for each signature; the table has all."""


def failure_sentences(told: ToldOfStudy) -> list[str]:
    """One sentence for each signature, the most frequent first; or that there are none."""
    if not told.diagnosed:
        return []
    among = f"{number_of(told.diagnosed, 'search trial')} of {told.study}"
    if not told.failures:
        return [f"No signs of failure in the {among}."]
    return [_sentence(each, among, told.diagnosed) for each in told.failures]


def _sentence(each: FailureSignature, among: str, diagnosed: int) -> str:
    most = [
        f"{stratum_words(name)} ({count} of {of})"
        for name, (count, of) in list(each.strata.items())[:MOST_STRATA]
        if name
    ]
    where = f"; most often in {' and '.join(most)}" if most and len(each.strata) > 1 else ""
    if most and len(each.strata) == 1:
        where = f", all in {most[0]}"
    word = f"{each.word[:1].upper()}{each.word[1:]}"
    return f"{word}: {each.trials} of the {among} ({each.trials / diagnosed:.0%}){where}."


def failure_table(told: ToldOfStudy) -> tuple[list[str], list[list[object]]]:
    """Headings and rows: a line for each stratum that shows a signature, a column for each signature."""
    words = [each.word for each in told.failures]
    trials = {name: of for each in told.failures for name, (_, of) in each.strata.items()}
    rows: list[list[object]] = [
        [stratum_words(name), of, *(each.strata.get(name, (0, of))[0] for each in told.failures)]
        for name, of in sorted(trials.items(), key=lambda item: (-_failing(told, item[0]), item[0]))
    ]
    return ["stratum", "trials", *words], rows


def _failing(told: ToldOfStudy, stratum: str) -> float:
    """The share of a stratum's trials that show its most frequent signature."""
    shares = (each.strata[stratum] for each in told.failures if stratum in each.strata)
    return max(count / of for count, of in shares)

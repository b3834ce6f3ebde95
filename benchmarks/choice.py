"""What a rule of choice costs on the test split, on published fine-tuning runs.

    python benchmarks/choice.py TABLE.csv.gz [--out benchmarks/results/choice.md]

The table: 6,368 finished runs of 8 networks on 11 MedMNIST sets (Juodelyte et al., arXiv 2412.20172), with
validation AUC, validation log loss (not calibrated) and test AUC of each. Regret: the highest test AUC of a
data set's runs less that of the run that a rule chooses; the mean over runs that tie.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from medfathom.metrics.choice import best_first
from medfathom.metrics.rules import MARGIN

MARGINS = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03)
Rule = Callable[[pd.DataFrame], "np.ndarray"]


def auc_alone(runs: pd.DataFrame) -> np.ndarray:
    """All runs with the highest AUC: nothing else tells them apart."""
    return np.flatnonzero(runs["val_auc"] == runs["val_auc"].max())


def by(name: str, margin: float = MARGIN) -> Rule:
    def chosen(runs: pd.DataFrame) -> np.ndarray:
        return best_first(runs["val_auc"], runs["val_loss"], name, margin=margin)[:1]  # type: ignore[arg-type]

    return chosen


def rules() -> Iterator[tuple[str, Rule]]:
    yield "AUC, ties at random", auc_alone
    yield "`auc`", by("auc")
    yield "`log_loss`", by("log_loss")
    for margin in MARGINS:
        default = " (the default)" if margin == MARGIN else ""
        yield f"`auc_then_log_loss`, margin {margin:g}{default}", by("auc_then_log_loss", margin)


def regrets(table: pd.DataFrame, columns: list[str], rule: Rule) -> np.ndarray:
    return np.array(
        [
            runs["test_auc"].max() - runs["test_auc"].to_numpy()[rule(runs)].mean()
            for _, runs in table.groupby(columns)
        ]
    )


def margin_from_other_sets(table: pd.DataFrame) -> float:
    """Mean regret over data sets where the margin is the one with the least strata regret on the others."""
    found = []
    for name in table["target"].unique():
        others, own = table[table["target"] != name], table[table["target"] == name]
        least = min(
            MARGINS,
            key=lambda m: regrets(others, ["target", "source"], by("auc_then_log_loss", m)).mean(),
        )
        found.append(regrets(own, ["target"], by("auc_then_log_loss", least)).mean())
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = pd.read_csv(given.table)
    table = table[table["status"] == "FINISHED"].dropna(subset=["val_auc", "val_loss", "test_auc"])
    sets, strata = ["target"], ["target", "source"]
    alone = regrets(table, strata, auc_alone)
    lines = [
        "# Which finished trial to call best",
        "",
        f"{date.today()}; `python benchmarks/choice.py`; {len(table):,} finished runs, "
        f"{table['target'].nunique()} data sets, {table['source'].nunique()} networks "
        "(`medmnist_imagenet_runs.csv.gz`).",
        "Mean test regret, over data sets and over strata (a network on a data set); strata in which the "
        "rule is better or worse than AUC with ties at random.",
        "",
        "| rule | data sets | worst data set | strata | better in | worse in |",
        "|---|---|---|---|---|---|",
    ]
    for name, rule in rules():
        of_sets, of_strata = regrets(table, sets, rule), regrets(table, strata, rule)
        better, worse = (of_strata < alone - 1e-9).sum(), (of_strata > alone + 1e-9).sum()
        numbers = f"{of_sets.mean():.4f} | {of_sets.max():.4f} | {of_strata.mean():.4f}"
        lines.append(f"| {name} | {numbers} | {better} | {worse} |")
    apart = margin_from_other_sets(table)
    lines += ["", f"With the margin chosen on the other ten data sets, for each data set: {apart:.4f}."]
    lines += ["", "## Each data set", "", "| data set | " + " | ".join(n for n, _ in SHOWN) + " |"]
    lines.append("|---|" + "---|" * len(SHOWN))
    found = [regrets(table, sets, rule) for _, rule in SHOWN]
    for i, name in enumerate(sorted(table["target"].unique())):
        lines.append(f"| {name} | " + " | ".join(f"{each[i]:.4f}" for each in found) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text)


SHOWN = [
    ("AUC, ties at random", auc_alone),
    ("`auc`", by("auc")),
    ("`log_loss`", by("log_loss")),
    ("`auc_then_log_loss`", by("auc_then_log_loss")),
]

if __name__ == "__main__":
    main()

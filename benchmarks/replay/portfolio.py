"""Write files of search/portfolios from recorded tables: trials, chosen greedily, or all results.

    uv run benchmarks/replay/portfolio.py --table ../shared/tables/medmnist_imagenet_runs.csv.gz

The next trial of a portfolio is the one that, with those chosen before it, leaves the least mean regret in
validation AUC over the tables. Each table's regrets are divided by the spread of its better half, so that no
table decides alone.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from tables import TIMM_NAMES, Table, public, recorded

from medfathom.definitions.space import TrialParams
from medfathom.study.policy.portfolio import Result

SETTING = ("architecture", "init", "unfreeze_depth", "learning_rate")
SEARCH = Path(__file__).parents[2] / "search" / "portfolios"


def chosen(tables: Sequence[Table], size: int) -> list[TrialParams]:
    """The portfolio of so many trials."""
    keys = sorted({key for table in tables for key in table.trials}, key=str)
    regrets = np.array([[_regret(table, key) for key in keys] for table in tables])
    left = np.full(len(tables), np.inf)
    found: list[TrialParams] = []
    while len(found) < min(size, len(keys)):
        after = np.minimum(left[:, None], regrets)
        # Among equals, and once every table's best is there, the one that is good by itself.
        place = int(np.argmin(after.mean(axis=0) + 1e-3 * regrets.mean(axis=0)))
        left, regrets[:, place] = after[:, place], np.inf
        found.append(next(t.trials[keys[place]].params for t in tables if keys[place] in t.trials))
    return found


def results(tables: Sequence[Table]) -> list[Result]:
    """What every setting reached on each table where it was run."""
    keys = sorted({key for table in tables for key in table.trials}, key=str)
    found = []
    for key in keys:
        aucs = {t.name: t.trials[key].aucs[-1] for t in tables if key in t.trials}
        params = next(t.trials[key].params for t in tables if key in t.trials)
        found.append(Result(params={n: getattr(params, n) for n in SETTING}, aucs=aucs))
    return found


def _regret(table: Table, key: tuple[object, ...]) -> float:
    aucs = sorted(trial.aucs[-1] for trial in table.trials.values())
    spread = max(aucs[-1] - statistics.median(aucs), 1e-3)
    return (aucs[-1] - table.trials[key].aucs[-1]) / spread if key in table.trials else 10.0


def with_timm_names(table: Table) -> Table:
    """Without the network that timm does not have, so that a definition can name every trial."""
    known = set(TIMM_NAMES.values()) - {"shufflenet"}
    kept = {k: t for k, t in table.trials.items() if t.params.architecture in known and t.params.head_dropout}
    return Table(table.name, table.space, table.epochs, kept)


def write(name: str, description: str, source: str, trials: Sequence[TrialParams]) -> None:
    lines = [f"description = {quoted(description)}", f"source = {quoted(source)}"]
    for params in trials:
        lines += ["", "[[trials]]"]
        values = params.model_dump(exclude_defaults=True)
        values["learning_rate"] = params.learning_rate
        values.pop("head_dropout", None)  # stands for momentum, which our SGD always has
        lines += [
            f"{key} = {quoted(value) if isinstance(value, str) else value}" for key, value in values.items()
        ]
    SEARCH.mkdir(exist_ok=True)
    (SEARCH / f"{name}.toml").write_text("\n".join(lines) + "\n")


def quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def main() -> None:
    """Write both portfolios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--table", type=Path, help="the public table; without it that portfolio is left as it is"
    )
    parser.add_argument("--size", type=int, default=10)
    wanted = parser.parse_args()
    when = date.today().isoformat()
    if wanted.table:
        tables = [with_timm_names(t) for t in public(wanted.table)]
        write(
            "medmnist-224",
            "Seven well-known networks, fine-tuned whole on MedMNIST at 224 px with SGD.",
            "Juodelyte et al., arXiv 2412.20172, DovileDo/transferability-in-medical-imaging 7e308c4 "
            f"(MIT), {len(tables)} sets; benchmarks/replay/portfolio.py, {when}",
            chosen(tables, wanted.size),
        )
    own = recorded()
    text = [
        'description = "Small networks on small images, trained for eight epochs with AdamW."',
        f'source = "benchmarks/replay/curves.csv.gz ({", ".join(t.name for t in own)}); '
        f'benchmarks/replay/portfolio.py, {when}"',
        'results = "small-images.csv"',
    ]
    (SEARCH / "small-images.toml").write_text("\n".join(text) + "\n")
    with (SEARCH / "small-images.csv").open("w", newline="") as file:
        rows = [{**row.params, **row.aucs} for row in results(own)]
        writer = csv.DictWriter(file, list(max(rows, key=len)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

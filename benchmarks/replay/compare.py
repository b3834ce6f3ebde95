"""Compare search policies on recorded trials: regret against compute, 30 seeds each.

    uv run benchmarks/replay/compare.py run recorded --work FOLDER [--seeds 30] [--policies NAME ...]
    uv run benchmarks/replay/compare.py run medmnist_imagenet_runs.csv.gz --work FOLDER --until 0.15
    uv run benchmarks/replay/compare.py report --work FOLDER

BOHB, SMAC and NePS need packages of their own: `uv run --with hpbandster==0.7.4 --with smac==2.4.1`, and, as
it wants other versions of networkx and pandas, `uv run --with neural-pipeline-search==0.17.0`.

Each study has four workers on a virtual clock. Compute is the workers' time, as a share of what the whole
grid takes. At any time a study's answer is the finished trial with the greatest validation AUC (the least
validation loss among equals); before the first has ended it is worth .5. Regret is what this lacks to the
best of the grid, in validation AUC and in test AUC. medfathom's portfolio is chosen on the other sets alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policies import POLICIES, WORKERS
from replay import Point
from tables import Table, public, recorded

SHARES = np.geomspace(0.005, 1.0, 106)
"""Of the grid's compute."""


def regrets(points: Sequence[Point], table: Table) -> NDArray[np.float64]:
    """Regret in validation AUC and in test AUC at each share of compute: (2, shares)."""
    found = np.array([[table.best_auc - 0.5], [table.best_test_auc - 0.5]]) * np.ones(len(SHARES))
    best = (-1.0, 0.0)
    for point in points:
        if (point.auc, -point.loss) > best:
            best = (point.auc, -point.loss)
            later = point.at * WORKERS / table.seconds <= SHARES
            found[:, later] = [[table.best_auc - point.auc], [table.best_test_auc - point.test_auc]]
    return found


def study(name: str, tables: Sequence[Table], place: int, seed: int, until: float) -> NDArray[np.float64]:
    table = tables[place]
    others = [t for t in tables if t is not table]
    return regrets(POLICIES[name](table, others, seed, until * table.seconds / WORKERS), table)


def compare(tables: Sequence[Table], names: Sequence[str], seeds: int, until: float, prefix: Path) -> None:
    """Run, and keep each policy's regrets (table, seed, 2, share)."""
    for name in names:
        started = time.process_time()
        found = np.array(
            [
                [study(name, tables, place, seed, until) for seed in range(seeds)]
                for place in range(len(tables))
            ]
        )
        seconds = (time.process_time() - started) / seeds / len(tables)
        np.savez_compressed(
            f"{prefix}-{name}.npz",
            regrets=found.astype(np.float32),
            until=until,
            sets=[t.name for t in tables],
            trials=[len(t.trials) for t in tables],
            seconds=seconds,
        )
        print(f"{name}: {seconds:.2f} CPU s a study", flush=True)


def main() -> None:
    """Run, or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("table", nargs="?", default="recorded", help="`recorded`, or a table's file")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--until", type=float, default=1.0, help="share of the grid's compute")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    if wanted.what == "report":
        from search_report import write

        write(wanted.work)
        return
    own = wanted.table.startswith("recorded")
    tables = recorded() if own else public(Path(wanted.table))
    prefix = wanted.work / ("recorded" if own else "public")
    compare(tables, wanted.policies, wanted.seeds, wanted.until, prefix)


if __name__ == "__main__":
    main()

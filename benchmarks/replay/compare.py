"""Compare search policies on recorded trials: regret against compute, 30 seeds each.

    uv run benchmarks/replay/compare.py [--seeds 30] [--policies NAME ...] [--work FOLDER]

Each study has four workers on a virtual clock. Compute is the workers' time, as a share of what the whole
grid takes. At any time a study's answer is the finished trial with the greatest validation AUC (the least
validation loss among equals); before the first has ended it is worth .5. Regret is what this lacks to the
best of the grid.
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
from tables import Table, recorded

SHARES = np.geomspace(0.005, 1.0, 106)
"""Of the grid's compute."""
NEAR = 0.005


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
    points = POLICIES[name](table, others, seed, until * table.seconds / WORKERS)
    return regrets(points, table)


def to_near(regret: NDArray[np.float64]) -> float:
    """The share of compute after which the regret stays within `NEAR`; infinite: it does not come there."""
    far = np.flatnonzero(regret > NEAR)
    return float(SHARES[0] if not len(far) else SHARES[far[-1] + 1] if far[-1] + 1 < len(SHARES) else np.inf)


def run(
    tables: Sequence[Table], names: Sequence[str], seeds: int, until: float
) -> dict[str, NDArray[np.float64]]:
    """Policy -> regrets (table, seed, 2, share)."""
    found = {}
    for name in names:
        started = time.process_time()
        rows = [
            [study(name, tables, place, seed, until) for seed in range(seeds)] for place in range(len(tables))
        ]
        found[name] = np.array(rows)
        seconds = (time.process_time() - started) / seeds / len(tables)
        near = [to_near(row[0]) for table in found[name] for row in table]
        area = found[name][:, :, :, SHARES <= 0.5].mean(axis=3)
        print(
            f"{name:16} area val {area[:, :, 0].mean():.4f} test {area[:, :, 1].mean():.4f}  "
            f"near: median {np.median(near):.3f}  by set "
            f"{[round(float(np.median([to_near(r[0]) for r in t])), 3) for t in found[name]]}  "
            f"({seconds:.2f} s a study)",
            flush=True,
        )
    return found


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--curves", type=Path)
    wanted = parser.parse_args()
    tables = recorded(wanted.curves) if wanted.curves else recorded()
    run(tables, wanted.policies, wanted.seeds, 1.0)


if __name__ == "__main__":
    main()

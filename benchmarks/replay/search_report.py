"""The comparison as a dated table and a picture: benchmarks/results/search.md, search.png."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from compare import SHARES
from numpy.typing import NDArray
from policies import NEAR

RESULTS = Path(__file__).parents[1] / "results"
ORDER = (
    "full grid",
    "random",
    "random + ASHA",
    "TPE + ASHA",
    "GP",
    "BOHB",
    "SMAC",
    "NePS",
    "medfathom",
    "oracle",
)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """One policy on one kind of tables: regrets (set, seed, 2, share), up to a share of compute."""

    regrets: Array
    until: float
    sets: list[str]
    trials: list[int]
    seconds: float


def within(until: float) -> NDArray[np.bool_]:
    """Which shares of compute lie up to one."""
    return np.asarray(np.less_equal(SHARES, until + 1e-9))


def area(regrets: Array, until: float) -> Array:
    """Mean regret over compute, from 0 to `until`. (set, seed, 2)."""
    inside = within(until)
    widths = np.diff(SHARES[inside], prepend=0.0)
    return np.asarray((regrets[..., inside] * widths).sum(axis=-1) / widths.sum())


def to_near(regrets: Array) -> Array:
    """The share of compute from which on the regret stays within `NEAR`; infinite: never. (set, seed, 2)."""
    far = regrets > NEAR
    last = np.where(far.any(axis=-1), len(SHARES) - np.argmax(far[..., ::-1], axis=-1), 0)
    return np.asarray(np.append(SHARES, np.inf)[last])


def read(work: Path, kind: str) -> dict[str, Results]:
    found = {}
    for name in ORDER:
        path = work / f"{kind}-{name}.npz"
        if path.exists():
            data = np.load(path)
            found[name] = Results(
                data["regrets"].astype(float),
                float(data["until"]),
                list(map(str, data["sets"])),
                list(map(int, data["trials"])),
                float(data["seconds"]),
            )
    return found


def cut(results: Results, until: float) -> Array:
    """Compute to near, what lies after `until` being never."""
    found = to_near(results.regrets)
    return np.where(found > until, np.inf, found)


def shown(share: float, until: float) -> str:
    return f"> {until:g}" if not np.isfinite(share) else f"{share:.3f}"


def table_of(found: dict[str, Results]) -> list[str]:
    until = min(r.until for r in found.values())
    sets = next(iter(found.values())).sets
    head = ["policy", "seeds", "area, validation", "area, test", "compute to .005, validation", "test", *sets]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, results in found.items():
        mean, near = area(results.regrets, until).mean(axis=(0, 1)), cut(results, until)
        by_set = [shown(m, until) for m in np.median(near[:, :, 0], axis=1)]
        cells = [
            f"**{name}**" if name == "medfathom" else name,
            str(results.regrets.shape[1]),
            f"{mean[0]:.4f}",
            f"{mean[1]:.4f}",
            shown(float(np.median(near[:, :, 0])), until),
            shown(float(np.median(near[:, :, 1])), until),
            *by_set,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def against(found: dict[str, Results]) -> list[str]:
    """Ours against the goals, in words."""
    until = min(r.until for r in found.values())
    ours = found["medfathom"]
    mine = float(np.median(cut(ours, until)[:, :, 0]))
    lines = [
        f"- Within .005 AUC of the grid's best (validation): {shown(mine, until)} of its compute, median."
    ]
    for name, share in (("TPE + ASHA", 3), ("BOHB", 5)):
        if name not in found:
            continue
        theirs = float(np.median(cut(found[name], until)[:, :, 0]))
        if np.isfinite(theirs) and np.isfinite(mine):
            what = f"{theirs / mine:.1f} times ours"
        elif np.isfinite(mine):
            what = f"more than {until / mine:.1f} times ours"
        else:
            what = "not comparable: ours does not come there in the median"
        lines.append(f"- {name}: {shown(theirs, until)}, {what} (goal: {share} times).")
    if "random + ASHA" in found:
        lines.append(worse(ours, found["random + ASHA"], until))
    return lines


def worse(ours: Results, theirs: Results, until: float) -> str:
    """At which budgets ours has more regret than another policy, beyond two standard errors over seeds."""
    inside = within(until)
    a, b = (r.regrets[:, :, 0][..., inside] for r in (ours, theirs))
    difference = (a.mean(axis=1) - b.mean(axis=1)).mean(axis=0)
    error = np.sqrt((a.var(axis=1) / a.shape[1] + b.var(axis=1) / b.shape[1]).sum(axis=0)) / len(a)
    beyond = difference > 2 * error + 1e-9
    if not beyond.any():
        return (
            "- Never worse than random + ASHA beyond noise (two standard errors over seeds, mean over sets)."
        )
    where = SHARES[inside][beyond]
    return (
        f"- Worse than random + ASHA beyond noise (two standard errors) at {beyond.sum()} of {beyond.size} "
        f"budgets, from {where.min():.3f} to {where.max():.3f} of the grid's compute, by "
        f"{difference[beyond].max():.4f} AUC at most."
    )


def picture(kinds: dict[str, dict[str, Results]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(kinds), 2, figsize=(10, 3.6 * len(kinds)), squeeze=False, sharex=True)
    for row, (title, found) in zip(axes, kinds.items(), strict=True):
        for axis, place, split in zip(row, (0, 1), ("validation", "test"), strict=True):
            for name, results in found.items():
                inside = within(results.until)
                mean = results.regrets[:, :, place][..., inside].mean(axis=(0, 1))
                thick = 2.5 if name == "medfathom" else 1.2
                axis.plot(SHARES[inside], mean, label=name, linewidth=thick, color=f"C{ORDER.index(name)}")
            axis.set(xscale="log", yscale="log", title=f"{title}: {split}")
            axis.grid(alpha=0.3)
        row[0].set_ylabel("mean regret (AUC)")
    for axis in axes[-1]:
        axis.set_xlabel("compute, as a share of the whole grid's")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / "search.png", dpi=110)


def write(work: Path) -> None:
    """Write table and picture."""
    titles = {"recorded": "recorded curves", "public": "public table"}
    kinds = {title: found for kind, title in titles.items() if (found := read(work, kind))}
    lines = [HEAD.format(date=date.today().isoformat())]
    for title, found in kinds.items():
        first = next(iter(found.values()))
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        lines += [
            "Trials recorded: "
            + ", ".join(f"{s} {n}" for s, n in zip(first.sets, first.trials, strict=True))
            + ".",
            "",
        ]
        lines += [*table_of(found), "", *against(found), ""]
    (RESULTS / "search.md").write_text("\n".join([*lines, NOTES]))
    picture(kinds)


HEAD = """# Search policies on recorded trials

{date}. Written by `benchmarks/replay/compare.py report`; commands and definitions are at the top of that
file.

![Mean regret against compute](search.png)

*Area*: mean regret over compute, from 0 to the end of the comparison. *Compute to .005*: the share of the
grid's compute from which on a study's answer stays within .005 AUC of the grid's best, median over seeds and
sets; then by set, for validation. `> x`: not reached by x in the median. Goals: a tenth of the
grid's compute, a third of TPE + ASHA's, a fifth of BOHB's.
"""
NOTES = """## What was compared

- *Recorded curves*: `benchmarks/replay/record.py`, grid.toml: EfficientNet-Lite 0 to 2 and MobileNetV2
  pretrained, Lite 0, MobileNetV3-small and LCNet from random weights, unfreeze depths 0 to 5, 8 epochs, 28
  px, 192 training images, CPU seconds of one thread on a shared machine. A set takes part with the learning
  rates of which every combination is recorded. Validation splits of 137 to 160 images are noisy: the
  standard error of one AUC is near .03, and the grid's best is often the only trial within .005 of it. So
  on these sets no policy can be sure to come there early.
- *Public table*: final values of 6,368 runs, repeats averaged. Nothing can be stopped early there, so ASHA
  does nothing, and BOHB and SMAC (which need epochs) are left out.
- BOHB: hpbandster 0.7.4's model and brackets, which Tune's `TuneBOHB` wraps, on ConfigSpace 1.2.2 with the
  four methods that it renamed; SMAC 2.4.1's multi-fidelity facade. Both go on where a configuration was. SMAC
  and GP take seconds of computing for each study and were not finished in time where they have no row; the
  commands above run them.
  NePS was not run: it needs other versions of networkx and pandas than this project.
- medfathom's own draws almost nothing at random where the whole grid can be looked at: its seeds agree, so
  that its figures are one study for each set, without a spread over seeds.
- TPE, GP, ASHA: the program's own pieces `tpe`, `gp`, `asha`. Where fewer seeds than 30 are given, time was
  short.

## Goals missed

On the recorded curves medfathom's own has the least area, in validation and in test. It does not come within
.005 AUC of the grid's best at a tenth of the grid's compute, nor at a third of TPE + ASHA's: see the lines
below each table. The last step to the best of a noisy grid is a matter of luck for every
policy. At the smallest budgets, before its first trial has ended, it is behind random trials: its first
trials are sound ones, and those take their time.

## What was tried for medfathom's own

Each figure is one study for each set (seeds agree), so that small differences say little. The portfolio was
then chosen without a rule for ties.

- The power of the seconds by which gain is divided (1, 0.5, 0; one learning rate recorded): .005 reached at
  .236, .212, .205 of the grid's compute. It is 0.5.
- Early stopping (phantom and pneumonia): forecast with the 90 % quantile of the finished trials' speeds,
  three finished: not reached by .6; their fastest: .283; and eight finished: .252. ASHA in its place: .328;
  none: .396. It is the fastest of eight.
- Without the practitioner's first trials (six sets of the public table) .005 is reached at .011 instead of
  .022. They stay: a portfolio says nothing of networks that nobody tried before.
"""

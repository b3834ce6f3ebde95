"""What an analysis costs: 100,000 rows, the report for 1,000 rows, the bootstrap over 500 models.

    python benchmarks/analysis.py [--out benchmarks/results/analysis.md]

Each case runs in a process of its own, so that memory peaks are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd


def table(architectures: int, datasets: int, inits: int, depths: int, seeds: int) -> pd.DataFrame:
    """Random results, complete: architectures x data sets (three modalities) x inits x depths x seeds."""
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [range(architectures), range(datasets), range(inits), range(depths), range(seeds)],
        names=["a", "d", "init", "unfreeze_depth", "seed"],
    )
    frame = index.to_frame(index=False)
    size, depth = 10 ** rng.uniform(6, 8.5, architectures), rng.integers(10, 200, architectures)
    own = 0.01 * rng.standard_normal(architectures)
    frame["architecture"] = "net" + frame["a"].astype(str)
    frame["family"] = "family" + (frame["a"] // 3).astype(str)
    frame["dataset"] = "set" + frame["d"].astype(str)
    frame["modality"] = frame["d"].map(lambda d: ("CXR", "OCT", "WSI")[d % 3])
    frame["n_params"], frame["depth"] = size[frame["a"]], depth[frame["a"]]
    frame["macs"] = frame["n_params"] * 90
    frame["auc"] = 0.85 + own[frame["a"]] + 0.01 * rng.standard_normal(len(frame))
    frame["init"] = frame["init"].map(lambda i: ("imagenet", "random", "other", "stats")[i])
    return frame.drop(columns=["a", "d"])


def rows(architectures: int, datasets: int, inits: int, depths: int, seeds: int) -> dict[str, float]:
    return measured(table(architectures, datasets, inits, depths, seeds))


def measured(frame: pd.DataFrame) -> dict[str, float]:
    """Seconds and size of the analysis of a table and of its report."""
    from medfathom.analysis import analyze, write_report

    before, cpu = time.perf_counter(), time.process_time()
    found = analyze(frame)
    middle, middle_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write_report(found, Path(folder))
        size = (Path(folder) / "report.html").stat().st_size
    return {
        "rows": len(frame),
        "analyze_s": middle - before,
        "analyze_cpu_s": middle_cpu - cpu,
        "report_s": time.perf_counter() - middle,
        "report_cpu_s": time.process_time() - middle_cpu,
        "report_mb": size / 1e6,
    }


def few_in_many() -> dict[str, float]:
    """Nine networks, each its own family, in eight modalities: as a published table looks."""
    frame = table(9, 11, 1, 1, 1)
    kinds = frame["dataset"].map(lambda name: f"modality {int(name[3:]) % 8}")
    return measured(frame.assign(modality=kinds, family=frame["architecture"]))


def bootstrap() -> dict[str, float]:
    from medfathom.confirmation.paired import bootstrap_aucs

    rng = np.random.default_rng(0)
    positive = rng.random(10_000) < 0.4
    scores = rng.normal(size=(500, 10_000)) + positive
    before, cpu = time.perf_counter(), time.process_time()
    found = bootstrap_aucs(positive, scores, rng.integers(0, 3_000, 10_000).tolist())
    assert found.shape == (500, 2_000)
    return {"seconds": time.perf_counter() - before, "cpu_s": time.process_time() - cpu}


CASES = {
    "100,000 rows": lambda: rows(40, 9, 4, 6, 12),
    "1,000 rows": lambda: rows(10, 3, 2, 6, 3),
    "50 architectures": lambda: rows(50, 3, 2, 2, 2),
    "9 architectures, 8 modalities": few_in_many,
    "bootstrap": bootstrap,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "analysis.md")
    options = parser.parse_args()
    if options.case:
        found = CASES[options.case]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "peak_mib": peak}))
        return
    results = {}
    for case in CASES:
        command = [sys.executable, __file__, "--case", case]
        results[case] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(case, results[case], flush=True)
    options.out.write_text(text(results))


def text(results: dict[str, dict[str, float]]) -> str:
    boot = results["bootstrap"]
    asked = {"100,000 rows": "20 s, 1 GiB"}
    lines = [
        "# What an analysis costs\n",
        "| what | asked | wall | processor | peak memory |",
        "|---|---|---|---|---|",
    ]
    for case, found in results.items():
        if case == "bootstrap":
            continue
        peak = f"{found['peak_mib']:.0f} MiB |"
        lines += [
            f"| {case}: {found['rows']:,} rows analysed | {asked.get(case, '-')} | "
            f"{found['analyze_s']:.1f} s | {found['analyze_cpu_s']:.1f} s | {peak}",
            f"| their report, {found['report_mb']:.2f} MB | 5 s, 3 MB | {found['report_s']:.1f} s | "
            f"{found['report_cpu_s']:.1f} s | {peak}",
        ]
    lines += [
        f"| bootstrap, 500 models x 10,000 images x 2,000 resamples | 60 s on two cores | "
        f"{boot['seconds']:.1f} s | {boot['cpu_s']:.1f} s | {boot['peak_mib']:.0f} MiB |",
        f"\n{date.today()}, 2 cores, {platform.machine()}, load average at the end {os.getloadavg()[0]:.1f} "
        "(the machine was shared: processor time is what an idle one would need, over its cores). "
        "`python benchmarks/analysis.py`.\n",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Training measured: six trials against a plain Ray Tune + timm script, the fit loop, memory, the AUC kernel.

    python benchmarks/training.py --npz PNEUMONIAMNIST.npz [--runs 3]
        [--parts peer,cpu,loop,memory,kernel,bf16,maps] [--programs plain,medfathom]
        [--earlier FILE] [--out FILE.md]

The six trials: ResNet-18, 2,000 training and 524 validation images of PneumoniaMNIST at 64 px, three epochs;
the head, the last stage or everything trained, each at two learning rates; two trials at once with one CPU
each. Both programs start from the same weights file (drawn once, batch norm calibrated) and read the same
pixels. medfathom runs as its users run it (`medfathom run`), with an empty cache at the start of each run. A
trial's time is what its worker spent, from building the network to the last validation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from training_rates import (
    BATCH,
    DEPTHS,
    EPOCHS,
    N_TRAIN,
    N_VAL,
    SIZE,
    bf16_part,
    cpu_part,
    kernel_part,
    loop_part,
    maps_part,
    memory_part,
    run_one,
    section,
)

HERE = Path(__file__).resolve().parent
WANTED = {"head": "20", "last": "3", "all": "1.3", "six": "4"}

STUDY = """
version = 1
name = "bench"
seed = {seed}
sampler = "grid"
scheduler = "none"
[dataset]
source = "npz"
modality = "CXR"
path = "{folder}/images.npz"
image_size = {size}
[space.architecture]
role = "scientific"
choices = ["resnet18"]
[space.init]
role = "fixed"
value = "file:{folder}/weights.safetensors"
[space.unfreeze_depth]
role = "scientific"
choices = [0, 1, 5]
[space.learning_rate]
choices = [3e-4, 1e-3]
[space.batch_size]
role = "fixed"
value = {batch}
[space.warmup_fraction]
role = "fixed"
value = 0.0
[budget]
trials = 6
epochs = {epochs}
[resources]
cpus_per_trial = 1
concurrent = 2
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--npz", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", default=",".join(["peer", *PARTS]))
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="those of the six trials that are run")
    parser.add_argument(
        "--earlier", type=Path, help="JSON lines of the runs against the peer; new ones are added to them"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medfathom-bench-") as folder:
        make_inputs(arguments.npz.resolve(), Path(folder))
        lines = [heading()]
        for part in arguments.parts.split(","):
            if part == "peer":
                programs = arguments.programs.split(",")
                lines += peer_part(Path(folder), arguments.runs, programs, arguments.earlier)
            else:
                lines += PARTS[part](Path(folder), arguments.runs)
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def heading() -> str:
    busy = "/".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"# Training\n\n{date.today():%Y-%m-%d}, {os.cpu_count()} cores ({cpu_name()}), Python "
        f"{platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}; load average at "
        f"the start {busy}. No CUDA device was at hand: no figure on one is measured.\n\n"
        "`python benchmarks/training.py --npz pneumoniamnist.npz`\n"
    )


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def make_inputs(source: Path, folder: Path) -> None:
    """images.npz (2,000 training images at 64 px) and weights.safetensors, in the folder."""
    random = np.random.default_rng(0)
    arrays = {}
    with np.load(source) as given:
        for split, count in (("train", N_TRAIN), ("val", N_VAL), ("test", 100)):
            labels = given[f"{split}_labels"]
            chosen = np.sort(random.permutation(len(labels))[:count])
            arrays[f"{split}_labels"] = labels[chosen]
            arrays[f"{split}_images"] = np.stack([enlarged(i) for i in given[f"{split}_images"][chosen]])
    np.savez(folder / "images.npz", **arrays)
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=1000).train()
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # plain averages: the statistics of one pass
    pixels = torch.from_numpy(arrays["train_images"][:256, None]).float() / 255
    with torch.no_grad():
        model((pixels.expand(-1, 3, -1, -1) - mean) / std)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors")


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def peer_part(folder: Path, runs: int, programs: list[str], earlier: Path | None) -> list[str]:
    """The programs in turns; six minutes a run, so that runs may come from several sittings."""
    kept = earlier.read_text(encoding="utf-8").splitlines() if earlier and earlier.exists() else []
    done: list[dict[str, Any]] = [json.loads(line) for line in kept]
    for _ in range(runs):
        for program in programs:
            number = len(of_program(done, program))
            done.append({"program": program, **PROGRAMS[program](folder, number)})
            print(json.dumps(done[-1]), file=sys.stderr, flush=True)
            if earlier:
                earlier.write_text("".join(json.dumps(run) + "\n" for run in done), encoding="utf-8")
    plain, ours = (of_program(done, program) for program in PROGRAMS)
    if not plain or not ours:
        return [f"{len(plain)} runs of the plain script, {len(ours)} of medfathom: no ratio yet.\n"]
    rows = [["trials", "plain, s", "medfathom, s", "ratio", "wanted", "AUC plain", "AUC medfathom"]]
    rows += [compared(kind, plain, ours) for kind in DEPTHS]
    rows += [warm_row(plain, ours), wall_row(plain, ours)]
    counts = f"medians of {len(plain)} (plain) and {len(ours)} (medfathom) runs"
    return section(f"Six trials against a plain Ray Tune + timm script, {counts}", rows)


def of_program(runs: list[dict[str, Any]], program: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["program"] == program]


def of_kind(run: dict[str, Any], kind: str, what: str) -> list[float]:
    return [trial[what] for trial in run["trials"] if trial["train"] == kind]


def compared(kind: str, plain: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    seconds = [[statistics.mean(of_kind(run, kind, "seconds")) for run in side] for side in (plain, ours)]
    aucs = [[auc for run in side for auc in of_kind(run, kind, "auc")] for side in (plain, ours)]
    return [
        kind,
        *(f"{statistics.median(side):.1f}" for side in seconds),
        ratio_cell(*seconds),
        WANTED[kind],
        *(f"{statistics.mean(side):.3f} ± {statistics.stdev(side):.3f}" for side in aucs),
    ]


def warm_row(plain: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    """Every later head-only trial of a study, for which there are features already."""
    before = [statistics.mean(of_kind(run, "head", "seconds")) for run in plain]
    after = [run["warm_head"] for run in ours]
    cells = [f"{statistics.median(before):.1f}", f"{statistics.median(after):.2f}", ratio_cell(before, after)]
    return ["head, features kept already", *cells, WANTED["head"], "", ""]


def wall_row(plain: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    seconds = [[run["seconds"] for run in side] for side in (plain, ours)]
    medians = [f"{statistics.median(side):.0f}" for side in seconds]
    return ["all six, wall, start to end", *medians, ratio_cell(*seconds), WANTED["six"], "", ""]


def ratio_cell(slow: list[float], fast: list[float]) -> str:
    """The ratio of the medians, and of the extremes."""
    ratio = statistics.median(slow) / statistics.median(fast)
    return f"{ratio:.1f} ({min(slow) / max(fast):.1f} to {max(slow) / min(fast):.1f})"


def run_plain(folder: Path, run: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "peers" / "plain_ray_timm.py"), "--npz", str(folder / "images.npz")]
    command += [
        "--weights",
        str(folder / "weights.safetensors"),
        "--size",
        str(SIZE),
        "--epochs",
        str(EPOCHS),
    ]
    command += ["--batch-size", str(BATCH), "--seed", str(run), "--out", str(folder / f"plain-{run}")]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "seconds": time.perf_counter() - started}


def run_medfathom(folder: Path, run: int) -> dict[str, Any]:
    place = folder / f"medfathom-{run}"
    place.mkdir()
    study = STUDY.format(folder=folder, size=SIZE, batch=BATCH, epochs=EPOCHS, seed=run)
    (place / "bench.toml").write_text(study, encoding="utf-8")
    url = f"sqlite:///{place / 'bench.db'}"
    program = "from medfathom.cli import main; main()"
    command = [sys.executable, "-c", program, "run", "bench.toml", "--storage", url]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=place)
    seconds = time.perf_counter() - started
    names = {depth: kind for kind, depth in DEPTHS.items()}
    trials = [
        {
            "train": names[trial.user_attrs["unfreeze_depth"]],
            "auc": trial.user_attrs["auc"],
            "seconds": trial.user_attrs["train_seconds"],
            "cache": trial.user_attrs.get("feature_cache"),
        }
        for trial in optuna.load_study(study_name="bench", storage=url).trials
    ]
    warm = list(run_one(folder, place / "storage" / "cache", depth=0, threads=1))[-1]
    return {"seconds": seconds, "trials": trials, "warm_head": warm.train_seconds}


PROGRAMS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "plain": run_plain,
    "medfathom": run_medfathom,
}

PARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "cpu": cpu_part,
    "loop": loop_part,
    "memory": memory_part,
    "kernel": kernel_part,
    "bf16": bf16_part,
    "maps": maps_part,
}

if __name__ == "__main__":
    main()

"""A data set of a million small images, prepared and trained for an epoch within a limit of memory.

    uv run benchmarks/million.py [--images 1000000] [--limit-gib 2] [--run-limit-gib 2] [--out FILE]

The commands are those that users type. Each runs, with all its processes, in a memory group of its own (a
cgroup v1 of Linux, where this user may make one; else without a limit, which is said). What counts there is
what programs hold, and pages of files as far as there is room for them: the kernel gives those back before it
kills a process. A process that takes more is killed, and the command fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

GROUPS = Path("/sys/fs/cgroup/memory")
SIDE = 28
PIECE = 10_000
DEFINITION = f"""
version = 1
name = "million"
question = "How much memory does a million of images take?"
sampler = "random"
scheduler = "none"
[dataset]
source = "npz"
path = "million.npz"
modality = "CXR"
image_size = {SIDE}
[space.architecture]
choices = ["mobilenetv3_small_050"]
[space.init]
value = "random"
[space.unfreeze_depth]
value = 5
[budget]
trials = 1
epochs = 1
"""


def make(path: Path, n_images: int) -> None:
    """Write the file in pieces: it is never whole in memory. Positive images have a brighter middle."""
    generator = np.random.default_rng(0)
    sizes = {"train": n_images * 9 // 10, "val": n_images // 20, "test": n_images // 20}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for split, n in sizes.items():
            labels = generator.integers(0, 2, (n, 1)).astype(np.uint8)
            _write(archive, f"{split}_images", (n, SIDE, SIDE), _images(labels, generator))
            _write(archive, f"{split}_labels", (n, 1), iter([labels]))


def _images(labels: np.ndarray, generator: np.random.Generator) -> Iterator[np.ndarray]:
    for start in range(0, len(labels), PIECE):
        own = labels[start : start + PIECE, 0]
        images = generator.integers(0, 160, (len(own), SIDE, SIDE), dtype=np.uint8)
        images[:, 10:18, 10:18] += (own * 40)[:, None, None].astype(np.uint8)
        yield images


def _write(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], pieces: Iterator[np.ndarray]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, described)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).tobytes())


def measured(words: list[str], folder: Path, gibibytes: float) -> tuple[float, float, bool]:
    """Minutes of a command, the most that its programs held (GiB, no pages of files), whether it was limited.

    Raises SystemExit with what it said, where it fails.
    """
    group = GROUPS / f"million-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(int(gibibytes * 2**30)))
        limited = True
    except OSError:
        limited = False
    held, began = [0.0], time.perf_counter()
    with tempfile.TemporaryFile() as told:

        def enter() -> None:
            if limited:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        process = subprocess.Popen(
            [sys.executable, "-m", "medfathom", *words],
            cwd=folder,
            stdout=told,
            stderr=subprocess.STDOUT,
            preexec_fn=enter,  # noqa: PLW1509  there is one thread yet
        )
        watching = threading.Thread(target=_watch, args=(process, group if limited else None, held))
        watching.start()
        code = process.wait()
        watching.join()
        # A worker that the kernel killed is begun again: the command may end well all the same.
        if code or (limited and _killed(group)):
            told.seek(0)
            ended = f"exit {code}" if code else "a process was killed for its memory"
            raise SystemExit(f"{' '.join(words)}: {ended}\n{told.read().decode()[-4000:]}")
    minutes = (time.perf_counter() - began) / 60
    if limited:
        group.rmdir()
    return minutes, held[0], limited


def _killed(group: Path) -> int:
    """How many processes of a group the kernel killed for their memory."""
    told = dict(line.split() for line in (group / "memory.oom_control").read_text().splitlines())
    return int(told["oom_kill"])


def _watch(process: subprocess.Popen[bytes], group: Path | None, held: list[float]) -> None:
    """Keep the most that the group's programs held, asked every half second."""
    while process.poll() is None:
        if group is not None:
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            own = int(stat["total_rss"]) + int(stat["total_shmem"])  # Ray's objects are shared memory
            held[0] = max(held[0], own / 2**30)
        time.sleep(0.5)


def main() -> None:
    """Make, prepare, train; a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--limit-gib", type=float, default=2.0)
    parser.add_argument("--run-limit-gib", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"{date.today()}, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}. {options.images:,} images "
        f"of {SIDE} px. `uv run benchmarks/million.py {' '.join(sys.argv[1:])}`",
        "",
        "| command | limit, GiB | minutes | held by its programs at most, GiB |",
        "| --- | --- | --- | --- |",
    ]
    os.environ.pop("MEDFATHOM_STORAGE", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "million.toml").write_text(DEFINITION, encoding="utf-8")
        make(folder / "million.npz", options.images)
        for words, limit in (
            (["data", "prepare", "million.toml"], options.limit_gib),
            (["run", "million.toml"], options.run_limit_gib),
        ):
            minutes, held, limited = measured(words, folder, limit)
            told = (
                f"{limit:g} | {minutes:.1f} | {held:.2f}" if limited else f"none | {minutes:.1f} | not known"
            )
            lines.append(f"| `{' '.join(words)}` | {told} |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

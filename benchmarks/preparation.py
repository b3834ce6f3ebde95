"""What preparing and checking a data set cost, and what the check finds.

    uv run benchmarks/preparation.py [--out benchmarks/results/preparation.md] [--only
    speed,tiles,memory,check,phantoms]

Speed: images per second against a plain Pillow loop (open, convert, resize, into one array), the two taking
turns in one run, each on files of its own kind, read once before so that neither waits for the disk; wall
time and processor time. Tiles: 100,000 colour JPEG tiles of 224 px, or as many as the variable TILES says.
Memory: the peak of a process of its own that prepares 20,000 images, and the start of a second one. Check:
5,000 images with copies and patients planted across splits. Phantoms: AUC of a logistic regression on
features of frozen EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.definitions.dataset import FolderDataset, NpzDataset, PhantomDataset

SIZE = 224
N_SPEED = {"small": 6_000, "large": 1_000}
N_TILES = 100_000
N_MEMORY = 20_000
ROUNDS = 2
DISTINCT = 120
"""Different images behind the files of the speed and memory tests: decoding one again costs the same."""

Pixels = NDArray[Any]


def texture(height: int, width: int, channels: int, seed: int) -> Pixels:
    """An image with detail at every scale, as compressors meet it."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, channels), dtype=np.float32)
    for cells in (4, 16, 64, 256):
        coarse = random.integers(0, 256, (cells, cells, channels), dtype=np.uint8)
        plane = coarse if channels == 3 else coarse[:, :, 0]
        resized = Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(resized, dtype=np.float32).reshape(height, width, channels) / np.sqrt(cells)
    scaled = (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)
    return scaled if channels == 3 else scaled[:, :, 0]


def encode(pixels: Pixels, kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return content.getvalue()


KINDS: dict[str, tuple[str, str, Callable[[int], Pixels]]] = {
    "JPEG, grey, 1400 x 1000 (chest X-rays)": ("JPEG", ".jpeg", lambda seed: texture(1000, 1400, 1, seed)),
    "JPEG, grey, 512 x 496 (OCT)": ("JPEG", ".jpeg", lambda seed: texture(496, 512, 1, seed)),
    "JPEG, colour, 300 x 300": ("JPEG", ".jpeg", lambda seed: texture(300, 300, 3, seed)),
    "PNG, grey, 512 x 512": ("PNG", ".png", lambda seed: texture(512, 512, 1, seed)),
    "JPEG, colour, 224 x 224 (tissue)": ("JPEG", ".jpg", lambda seed: texture(224, 224, 3, seed)),
    "PNG, colour, 224 x 224 (tissue)": ("PNG", ".png", lambda seed: texture(224, 224, 3, seed)),
    "TIFF, colour, 224 x 224 (tissue)": ("TIFF", ".tif", lambda seed: texture(224, 224, 3, seed)),
}


def write_files(folder: Path, kind: str, n: int) -> list[Path]:
    """n files in train, val and test, two classes."""
    form, suffix, draw = KINDS[kind]
    contents = [encode(draw(seed), form) for seed in range(min(n, DISTINCT))]
    paths = []
    for row in range(n):
        split = ("train", "train", "train", "val", "test")[row // 2 % 5]
        path = folder / split / ("a", "b")[row % 2] / f"{row}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[row % len(contents)])
        paths.append(path)
    return paths


def pillow_loop(paths: list[Path], mode: str) -> Pixels:
    """What one writes by hand."""
    shape = (len(paths), SIZE, SIZE) if mode == "L" else (len(paths), SIZE, SIZE, 3)
    array = np.empty(shape, dtype=np.uint8)
    for row, path in enumerate(paths):
        with Image.open(path) as image:
            array[row] = np.asarray(image.convert(mode).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return array


@dataclass(frozen=True)
class Spent:
    """Seconds, by the clock and of processors (children included)."""

    wall: float
    processor: float


def spent(work: Callable[[], object]) -> Spent:
    clock, processor = time.perf_counter(), _processor()
    work()
    return Spent(time.perf_counter() - clock, _processor() - processor)


def _processor() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def speed() -> Iterator[str]:
    yield f"## Images per second, to {SIZE} px"
    yield ""
    yield (
        f"The better of {ROUNDS} rounds, the two taking turns. Processor: what an image costs, over all "
        "processes; two free cores would give up to twice its ratio."
    )
    yield ""
    yield "| files | number | plain Pillow loop | medfathom | ratio | processor, plain | medfathom | ratio |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for kind in KINDS:
        n = N_SPEED["small" if "224" in kind or "300" in kind else "large"]
        with tempfile.TemporaryDirectory() as name:
            plain, ours = _turns(kind, n, Path(name))
        before, after = n / min(s.wall for s in plain), n / min(s.wall for s in ours)
        costs = [min(s.processor for s in side) / n * 1e6 for side in (plain, ours)]
        yield (
            f"| {kind} | {n:,} | {before:,.0f} | {after:,.0f} | {after / before:.2f} | "
            f"{costs[0]:,.0f} us | {costs[1]:,.0f} us | {costs[0] / costs[1]:.2f} |"
        )
    yield ""
    yield (
        "medfathom also hashes every file and every prepared image, reads every header before, writes the "
        "images to the disk, and writes labels, names and manifest. A JPEG much larger than needed is "
        "decoded at a half, a quarter or an eighth."
    )


def _turns(kind: str, n: int, folder: Path) -> tuple[list[Spent], list[Spent]]:
    paths = write_files(folder / "set", kind, n)
    mode = "RGB" if "colour" in kind else "L"
    config = FolderDataset(source="folder", path=str(folder / "set"), modality="X", image_size=SIZE)
    plain, ours = [], []
    for turn in range(ROUNDS):
        plain.append(spent(lambda: pillow_loop(paths, mode)))
        cache = folder / f"cache{turn}"
        ours.append(spent(lambda place=cache: prepare(config, place)))
        shutil.rmtree(cache)
    return plain, ours


def tiles() -> Iterator[str]:
    n = int(os.environ.get("TILES", N_TILES))
    yield f"## {n:,} tiles of {SIZE} px"
    yield ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "set", "JPEG, colour, 224 x 224 (tissue)", n)
        found = _in_process({"source": "folder", "path": str(folder / "set")}, folder / "cache")
    processor = f"{found['processor']:.0f} s of processors ({found['processor'] / n * 1e6:,.0f} us a tile)"
    peak = f"peak memory {found['peak'] / 2**20:,.0f} MiB"
    yield f"Colour JPEG: {found['seconds']:.0f} s by the clock, {processor}, {peak}."


def memory() -> Iterator[str]:
    yield f"## {N_MEMORY:,} images: peak memory, and the start of a second run"
    yield ""
    yield "| source | prepared size | first run | images/s | peak memory | second run |"
    yield "| --- | --- | --- | --- | --- | --- |"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kind = "JPEG, colour, 300 x 300"
        write_files(folder / "set", kind, N_MEMORY)
        yield _memory_row(f"folder: {kind}", {"source": "folder", "path": str(folder / "set")}, folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_npz(folder / "set.npz")
        keys = {"source": "npz", "path": str(folder / "set.npz")}
        yield _memory_row("npz: compressed, 224 x 224 colour", keys, folder)


def _memory_row(label: str, keys: dict[str, Any], folder: Path) -> str:
    first, second = (_in_process(keys, folder / "cache") for _ in range(2))
    gigabytes = N_MEMORY * SIZE * SIZE * 3 / 2**30
    return (
        f"| {label} | {gigabytes:.1f} GiB | {first['seconds']:.0f} s | {N_MEMORY / first['seconds']:,.0f} | "
        f"{first['peak'] / 2**20:,.0f} MiB | {second['seconds']:.2f} s |"
    )


def _in_process(keys: dict[str, Any], cache: Path) -> dict[str, float]:
    """Prepare in a process of its own; its seconds (without imports) and peak memory (with everything).

    `processor` are seconds of it and of the processes that it starts, without imports.
    """
    arguments = [sys.executable, __file__, "--prepare", json.dumps(keys), "--cache", str(cache)]
    found: dict[str, float] = json.loads(
        subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    )
    return found


def prepare_here(keys: dict[str, Any], cache: Path) -> None:
    """The other side of `_in_process`."""
    config_class = FolderDataset if keys["source"] == "folder" else NpzDataset
    config = config_class(modality="X", image_size=SIZE, **keys)
    found = spent(lambda: prepare(config, cache))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": found.wall, "processor": found.processor, "peak": peak}))


def _write_npz(path: Path) -> None:
    """A compressed archive, written row by row: it does not fit into memory comfortably."""
    import zipfile

    from numpy.lib import format as npy

    sizes = {"train": N_MEMORY * 6 // 10, "val": N_MEMORY * 2 // 10, "test": N_MEMORY * 2 // 10}
    rows = [texture(SIZE, SIZE, 3, seed).tobytes() for seed in range(DISTINCT)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for split, n in sizes.items():
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as file:
                head = {"descr": "|u1", "fortran_order": False, "shape": (n, SIZE, SIZE, 3)}
                npy.write_array_header_2_0(file, head)
                for row in range(n):
                    file.write(rows[row % DISTINCT])
            labels = io.BytesIO()
            np.save(labels, (np.arange(n) % 2)[:, None])
            archive.writestr(f"{split}_labels.npy", labels.getvalue())


Change = Callable[[Image.Image], Image.Image]
CHANGES: dict[str, Change] = {
    "JPEG at quality 50": lambda image: Image.open(io.BytesIO(encode50(image))),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast x 0.7": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "blurred by 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noise of 5 grey levels": lambda image: Image.fromarray(
        np.clip(np.asarray(image) + np.random.default_rng(0).normal(0, 5, image.size[::-1]), 0, 255).astype(
            np.uint8
        )
    ),
    "halved and enlarged": lambda image: image.resize((32, 32), Image.Resampling.BILINEAR).resize((64, 64)),
    "cropped by 3 % on each side": lambda image: image.crop((2, 2, 62, 62)).resize((64, 64)),
    "shifted by 2 px": lambda image: Image.fromarray(np.roll(np.asarray(image), 2, axis=1)),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}
PLANTED_EACH = 20


def encode50(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return content.getvalue()


def check() -> Iterator[str]:
    from medfathom.data.check.check import check_data

    yield "## `data check` at 5,000 images"
    yield ""
    yield (
        f"Phantoms of 64 px, 3,000 training, 1,000 validation, 1,000 test images; {PLANTED_EACH} test "
        "images of each kind are changed copies of training images, 20 are exact ones, and 20 patients are "
        "in training and validation."
    )
    yield ""
    yield "| phantom | time | exact copies | patients | near copies | false near copies |"
    yield "| --- | --- | --- | --- | --- | --- |"
    details = []
    for source in ("phantom-cxr", "phantom-oct", "phantom-wsi"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            content, planted = _planted(source, folder)
            np.savez(folder / "set.npz", **content)
            config = NpzDataset(source="npz", path=str(folder / "set.npz"), modality="X", image_size=64)
            prepare(config, folder / "cache")
            report = check_data(config, folder / "cache")
        exact = _pairs(report, "exact copies across splits")
        groups = {
            item["group"] for f in report.findings if f.check == "groups across splits" for item in f.items
        }
        near = _pairs(report, "near copies across splits") | _pairs(report, "near copies within a split")
        missed = [kind for pair, kind in planted.items() if pair not in near]
        yield (
            f"| {source} | {report.seconds:.0f} s | {len(exact)} of 20 | {len(groups)} of 20 | "
            f"{len(planted) - len(missed)} of {len(planted)} | {len(near - planted.keys())} |"
        )
        kinds = {kind: missed.count(kind) for kind in CHANGES if kind in missed}
        if kinds:
            said = ", ".join(f"{kind} ({n} of {PLANTED_EACH})" for kind, n in kinds.items())
            details.append(f"Missed in {source}: {said}.")
    yield ""
    yield from details or ["None missed."]


def _planted(source: str, folder: Path) -> tuple[dict[str, Pixels], dict[tuple[str, str], str]]:
    sizes = {"n_train": 3000, "n_val": 1000, "n_test": 1000}
    data = prepare(PhantomDataset(source=source, modality="X", image_size=64, **sizes), folder / "phantoms")
    splits = {"train": data.split("train"), "val": data.split("val"), "test": open_test(data)}
    content: dict[str, Pixels] = {}
    for split, found in splits.items():
        grey = np.array(found.images)
        content[f"{split}_images"] = (
            grey[..., 0] if grey.shape[3] == 1 else grey.mean(axis=3).astype(np.uint8)
        )
        content[f"{split}_labels"] = np.array(found.labels)[:, None]
        content[f"{split}_groups"] = np.array([f"{split} {row}" for row in range(len(found))], dtype="<U12")
    planted = {}
    row = 0
    for kind, change in CHANGES.items():
        for _ in range(PLANTED_EACH):
            copy = change(Image.fromarray(content["train_images"][row])).convert("L")
            content["test_images"][row] = np.asarray(copy)
            planted[(f"train_images[{row}]", f"test_images[{row}]")] = kind
            row += 1
    content["test_images"][row : row + 20] = content["train_images"][row : row + 20]
    content["val_groups"][:20] = content["train_groups"][:20]
    return content, planted


def _pairs(report: Any, check: str) -> set[tuple[str, str]]:
    return {
        tuple(image["name"] for image in item["images"][:2])
        for finding in report.findings
        if finding.check == check
        for item in finding.items
    }


def phantoms() -> Iterator[str]:
    yield "## How hard the phantoms are"
    yield ""
    yield (
        "AUC (mean over classes) on 240 test images of 64 px, of a logistic regression (C = 0.01, "
        "standardised) on the pooled features of frozen EfficientNet-Lite0 from ImageNet, fitted to 480 "
        "training images."
    )
    yield ""
    yield "| phantom | difficulty 0 | 0.25 | 0.5 | 0.75 | 1 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for source in ("phantom-cxr", "phantom-oct", "phantom-wsi"):
        scores = [_phantom_auc(source, difficulty) for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0)]
        yield f"| {source} | {' | '.join(f'{score:.3f}' for score in scores)} |"


def _phantom_auc(source: str, difficulty: float) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with tempfile.TemporaryDirectory() as name:
        config = PhantomDataset(source=source, modality="X", image_size=64, difficulty=difficulty)
        data = prepare(config, Path(name))
        train, test = data.split("train"), open_test(data)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        model.fit(_features(train.images), train.labels)
        scores = model.predict_proba(_features(test.images))
    return float(roc_auc_score(test.labels, scores, multi_class="ovr"))


def _features(images: Pixels) -> Pixels:
    import torch

    from medfathom.models.build import build_network

    network = build_network(
        "tf_efficientnet_lite0",
        init="imagenet",
        num_outputs=3,
        unfreeze_depth=0,
        image_size=64,
        in_channels=3,
        seed=0,
    ).eval()
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0  # mean = std = 0.5
    batch = batch.expand(-1, 3, -1, -1)
    with torch.inference_mode():
        return torch.cat([network.forward_prefix(part) for part in batch.split(64)]).numpy()


PARTS = {"speed": speed, "tiles": tiles, "memory": memory, "check": check, "phantoms": phantoms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--prepare")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare_here(json.loads(arguments.prepare), arguments.cache)
        return
    lines = [
        "# Preparing and checking data",
        "",
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}, {platform.system()}), Python "
        f"{platform.python_version()}; load {os.getloadavg()[0]:.1f} at the start. "
        "`uv run benchmarks/preparation.py`",
    ]
    for part in arguments.only.split(","):
        lines.append("")
        for line in PARTS[part]():
            lines.append(line)
            print(line, flush=True)
    lines += ["", f"Load {os.getloadavg()[0]:.1f} at the end."]
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The check's page: one self-contained HTML file with the findings, the numbers, and the pictures.

Every text from the data set (file names, groups, classes) is escaped; pictures are embedded.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.all_splits import DataView
from medfathom.data.check.check import CheckReport
from medfathom.data.check.statistics import SplitStatistics
from medfathom.data.images import Pixels
from medfathom.files import write_atomically

PER_CLASS = 24
"""Images of each class on its contact sheet, from training and validation."""

SHOWN_SETS = 60
"""Sets of copies shown with pictures, of each finding; the JSON has all."""

PER_SET = 6
"""Pictures of one set of copies, at most."""

TILE = 96
"""Side of a picture, pixels."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.3rem .7rem;text-align:left;vertical-align:top}
th{border-bottom:2px solid #888}td{border-bottom:1px solid #ddd}td.n{text-align:right}
.error{color:#a40000;font-weight:600}.warning{color:#8a5a00;font-weight:600}.note{color:#555}
figure{display:inline-block;margin:.3rem .6rem .3rem 0;vertical-align:top}
figcaption{font-size:.75rem;max-width:12rem;overflow-wrap:anywhere;color:#444}
.set{border-bottom:1px solid #eee;padding:.2rem 0}img{image-rendering:pixelated}
"""


def write_page(report: CheckReport, path: Path, *, title: str, seed: int = 0) -> None:
    """Write the page .

    Args:
        report: what was found.
        path: the HTML file.
        title: the data set's name.
        seed: of the choice of images shown.
    """
    view = DataView(report.data)
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}: data check</title>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<style>{_STYLE}</style><h1>{escape(title)}: data check</h1>",
        _verdict(report),
        _findings(report),
        _numbers(report.splits),
        *_copies(report, view),
        *_contact_sheets(view, seed),
        "</html>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(parts))


def _verdict(report: CheckReport) -> str:
    data = report.data
    counts = {s: sum(f.severity == s for f in report.findings) for s in ("error", "warning", "note")}
    said = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    return (
        f"<p>{escape(data.modality)}, {data.task}, {len(data.class_names)} classes, {data.image_size} px, "
        f"{'colour' if data.channels == 3 else 'grey'}; fingerprint <code>{data.fingerprint[:12]}</code>.</p>"
        f"<p>{said}.</p>"
    )


def _findings(report: CheckReport) -> str:
    rows = [
        f"<tr><td class='{severity}'>{severity}</td><td>{escape(check)}</td><td>{escape(message)}</td></tr>"
        for severity, check, message in report.rows()
    ]
    rows += [
        f"<tr><td class='note'>tested</td><td>shortcut</td><td>{escape(s.predictor)}: AUC {s.auc:.3f} "
        f"[{s.ci_low:.3f}, {s.ci_high:.3f}] on {s.n_images} images (0.5 is chance)</td></tr>"
        for s in report.shortcuts
    ]
    rows.append(
        f"<tr><td class='note'>tested</td><td>near copies</td><td>details of the typical image agree to "
        f"{report.near.typical:.2f} with those of its second nearest neighbour; copies begin at "
        f"{report.near.threshold:.2f}</td></tr>"
    )
    return f"<h2>Findings</h2><table><tr><th></th><th>check</th><th>what</th></tr>{''.join(rows)}</table>"


def _numbers(splits: Sequence[SplitStatistics]) -> str:
    def row(name: str, values: Iterable[str]) -> str:
        return f"<tr><td>{escape(name)}</td>{''.join(f'<td class=n>{escape(v)}</td>' for v in values)}</tr>"

    def three(values: tuple[float, float, float]) -> str:
        return " / ".join(f"{value:,.0f}" for value in values)

    lines = [row("images", (f"{s.n_images:,}" for s in splits))]
    lines += [row(name, (f"{s.classes[name]:,}" for s in splits)) for name in splits[0].classes]
    lines.append(row("groups", ("not known" if s.n_groups is None else f"{s.n_groups:,}" for s in splits)))
    lines += [
        row("width (least / median / most)", (three(s.sizes.width) for s in splits)),
        row("height", (three(s.sizes.height) for s in splits)),
        row("file bytes", (three(s.sizes.n_bytes) for s in splits)),
        row("mean intensity", (f"{s.intensities.mean:.3f}" for s in splits)),
        row("standard deviation", (f"{s.intensities.std:.3f}" for s in splits)),
        row("black pixels", (f"{s.intensities.black:.1%}" for s in splits)),
        row("white pixels", (f"{s.intensities.white:.1%}" for s in splits)),
    ]
    head = "".join(f"<th>{escape(s.split)}</th>" for s in splits)
    return f"<h2>Splits</h2><table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def _copies(report: CheckReport, view: DataView) -> Iterable[str]:
    """Pictures of every finding whose items are sets of images, or single ones."""
    for finding in report.findings:
        sets = [item.get("images", [item]) for item in finding.items]
        if not sets or not all("row" in image for images in sets for image in images):
            continue
        yield f"<h2>{escape(finding.check)} ({len(sets)})</h2>"
        for item, images in zip(finding.items[:SHOWN_SETS], sets, strict=False):
            likeness = f"<small>similarity {item['similarity']}</small>" if "similarity" in item else ""
            figures = "".join(_figure(view, image) for image in images[:PER_SET])
            yield f"<div class='set'>{figures}{likeness}</div>"
        if len(sets) > SHOWN_SETS:
            yield f"<p>and {len(sets) - SHOWN_SETS} more.</p>"


def _figure(view: DataView, image: dict[str, Any]) -> str:
    group = f", {image['group']}" if image["group"] else ""
    caption = escape(f"{image['name']}: {image['split']}, {image['label']}{group}")
    picture = _embedded(_tile(view.image(image["row"])))
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _contact_sheets(view: DataView, seed: int) -> Iterable[str]:
    """A sheet of every class. Test images stay unseen here."""
    random = np.random.default_rng(seed)
    learned = np.concatenate([view.rows_of("train"), view.rows_of("val")])
    labels = np.concatenate([view.splits[name].labels for name in ("train", "val")])
    yield "<h2>Images of each class, from training and validation</h2>"
    for index, name in enumerate(view.data.class_names):
        has = labels[:, index] > 0 if labels.ndim == 2 else labels == index
        rows = random.permutation(learned[has])[:PER_CLASS]
        tiles = [_tile(view.image(int(row))) for row in np.sort(rows)]
        yield f"<h3>{escape(name)} ({int(has.sum()):,})</h3>{_embedded(_sheet(tiles))}"


def _tile(image: Pixels) -> NDArray[np.uint8]:
    """A picture of TILE pixels, RGB."""
    shallow = (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
    colour = np.repeat(shallow, 3, axis=2) if shallow.shape[2] == 1 else shallow
    large = image.shape[0] > TILE
    scaled = Image.fromarray(colour).resize(
        (TILE, TILE), Image.Resampling.BILINEAR if large else Image.Resampling.NEAREST
    )
    return np.asarray(scaled)


def _sheet(tiles: Sequence[NDArray[np.uint8]], columns: int = 8) -> NDArray[np.uint8]:
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (TILE + 2), columns * (TILE + 2), 3), 255, dtype=np.uint8)
    for position, tile in enumerate(tiles):
        top, left = position // columns * (TILE + 2), position % columns * (TILE + 2)
        sheet[top : top + TILE, left : left + TILE] = tile
    return sheet


def _embedded(pixels: NDArray[np.uint8]) -> str:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=88)
    source = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    return f"<img alt='' width='{pixels.shape[1]}' height='{pixels.shape[0]}' src='{source}'>"

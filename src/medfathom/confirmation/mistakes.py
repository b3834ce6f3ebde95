"""A page of the most confident mistakes: each image beside its Grad-CAM, what was said, and the truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.confirmation.pictures import Judged

if TYPE_CHECKING:
    from medfathom.confirmation.grad_cam import Prediction

SIDE = 256
"""Images are shown so wide, pixels."""

HEAT = 0.45
"""Share of the map in what is shown, as in the pictures."""

STYLE = (
    "body{font-family:sans-serif;max-width:75em;margin:2em auto;background:#fff;color:#111}"
    "figure{display:inline-block;margin:0 1em 1.5em 0;vertical-align:top}"
    f"img{{width:{SIDE}px;image-rendering:pixelated;margin-right:4px}}figcaption{{max-width:{2 * SIDE}px}}"
)


def mistakes_page(found: Judged, wrong: Sequence[Prediction], maps: NDArray[np.float32] | None) -> str:
    """One HTML file without anything outside it.

    Args:
        found: the model's probabilities, and the images.
        wrong: the mistakes to show, the most confident first.
        maps: of each, (n, s, s) in [0, 1]; None: the network has none.
    """
    config = found.config
    about = f"{config.study}: {config.architecture}"
    shown = "".join(_figure(found, each, None if maps is None else maps[k]) for k, each in enumerate(wrong))
    none = "" if maps is not None else "<p>This network has no Grad-CAM.</p>"
    head = f'<meta charset="utf-8"><title>Mistakes of {escape(about)}</title><style>{STYLE}</style>'
    text = (
        "The most confident mistakes, the most confident first. To the right of each image is its Grad-CAM: "
        "the places that the prediction depends on. These are images of patients: keep the page as "
        "confidential as the data."
    )
    body = f"<h1>Mistakes of {escape(about)}</h1><p>{text}</p>{none}{shown}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _figure(found: Judged, each: Prediction, heat: NDArray[np.float32] | None) -> str:
    colours = _colours(np.asarray(found.test.images[each.image]))
    said = f"predicted {each.said} ({each.confidence:.2f}), is {each.true}"
    name = str(found.test.names[each.image])
    images = [_image(colours, f"{name}, {said}")]
    if heat is not None:
        warm = mpl.colormaps["inferno"](heat)[..., :3] * 255
        images.append(_image((1 - HEAT) * colours + HEAT * warm, f"Grad-CAM of {name}"))
    caption = f"<figcaption>{escape(name)}<br>{escape(said)}</figcaption>"
    return f"<figure>{''.join(images)}{caption}</figure>"


def _colours(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """In RGB, 0 to 255."""
    values = image.astype(np.float64) / (257 if image.dtype == np.uint16 else 1)
    return np.broadcast_to(values, (*values.shape[:2], 3))


def _image(colours: NDArray[np.float64], about: str) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.rint(colours).astype(np.uint8)).save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img alt="{escape(about, quote=True)}" src="data:image/png;base64,{content}">'

"""What a model says: class probabilities of images or cases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import Ignored
from medfathom.exported.as_html import predictions_html


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of some images or cases.

    Attributes:
        names: file or position of each image; of a case what its images have in common.
        class_names: of the columns of `probabilities`.
        probabilities: (n, K) in [0, 1], calibrated on the validation split. They sum to 1; with several
            labels each stands alone.
        predicted: (n,) the class by the threshold (binary), the most probable class (multiclass), or all
            labels that reach their thresholds, joined by "|" (multilabel).
        unreadable: image -> why it was skipped.
        remarks: how images were changed to fit the model, in words.
        ignored: files of a folder that are not images of the model's kind.
        positive: the positive class of two; None for other tasks.
        cases: the case of each image, where the model judges cases and these are their images.
        n_images: images of each case, where these are cases.
        of_images: the same for the images of cases.
    """

    names: list[str]
    class_names: list[str]
    probabilities: NDArray[np.float64]
    predicted: list[str]
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    positive: str | None = None
    cases: list[str] | None = None
    n_images: list[int] | None = None
    of_images: Predictions | None = None

    def __len__(self) -> int:
        return len(self.names)

    def _repr_html_(self) -> str:
        """In a notebook: the first rows."""
        return predictions_html(self)

    def rows(self) -> list[dict[str, object]]:
        """One mapping for each image or case, by `columns`."""
        described: list[list[object]] = [list(self.names), list(self.predicted)]
        if self.n_images is not None:
            described.insert(1, list(self.n_images))
        if self.cases is not None:
            described = [list(self.cases), list(self.names)]
        rows = zip(*described, *self.probabilities.T.tolist(), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    @property
    def columns(self) -> list[str]:
        """`image` and `predicted`; of cases `case`, `images` (their number), `predicted`; of the images of
        cases `case` and `image`. Then the classes; one that is called `case` is `probability:case`.
        """
        first = ["image", "predicted"] if self.n_images is None else ["case", "images", "predicted"]
        first = first if self.cases is None else ["case", "image"]
        return [*first, *(f"probability:{name}" if name in first else name for name in self.class_names)]

"""Classes of other data in the words of the model."""

import re
from typing import Any

import numpy as np
import pytest

from medfathom.data.sources.base import Listing
from medfathom.errors import InputError
from medfathom.evaluation.classes import align
from medfathom.metrics.classification import TaskKind
from medfathom.metrics.unknown import UNKNOWN


def listing(names: tuple[str, ...], labels: Any, task: TaskKind = "multiclass") -> Listing:
    """Images with these labels and nothing else."""
    labels = np.asarray(labels)
    rows = [str(k) for k in range(len(labels))]
    empty = np.array([""] * len(rows), dtype=np.str_)
    return Listing(rows, labels, empty, None, task, names, 1, np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("Karzinom", "gutartig"), '"Karzinom" = one of benign, IDC, or'),
        (("0", "1"), '"0" = one of benign, IDC, or'),
        (("BENIGN", "idc"), '"BENIGN" = "benign", or'),
        (("Idc", "Non-idc"), '"Idc" = "IDC", or'),
        (("benign", "Karzinom"), '"Karzinom" = "IDC", or'),
    ],
)
def test_the_map_to_copy_does_not_exchange_classes(names: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"[map] {says}")):
        align(listing(names, [0, 1]), "binary", ["benign", "IDC"], {})


def test_two_labels_of_the_data_that_are_one_of_the_models() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, UNKNOWN, 0], [1, UNKNOWN, 0]], dtype=np.uint8)
    data = listing(("infiltration", "consolidation", "mass"), labels, "multilabel")
    found = align(
        data, "multilabel", ["mass", "opacity"], {"infiltration": "opacity", "consolidation": "opacity"}
    )
    assert found.labels.tolist() == [[0, 1], [0, 1], [1, 0], [0, UNKNOWN], [0, 1]]

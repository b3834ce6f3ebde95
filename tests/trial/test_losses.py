from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from medfathom.metrics.unknown import UNKNOWN
from medfathom.trial.losses import Loss


def test_parts_of_a_batch_add_up() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    logits = torch.randn(6, 3)
    loss = Loss("multiclass", labels, 3, smoothing=0.1, weighted=True)
    whole = loss.sum(logits, labels) / loss.weight(labels)
    parts = sum(loss.sum(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)) / loss.weight(labels)
    torch.testing.assert_close(whole, torch.as_tensor(parts))
    weights = torch.tensor([6 / 9, 2.0, 1.0])
    torch.testing.assert_close(
        whole, functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1)
    )


def test_plain_loss_is_torch_s() -> None:
    torch.manual_seed(1)
    labels, logits = torch.tensor([0, 1, 1, 0]), torch.randn(4, 2)
    loss = Loss("binary", labels, 2)
    torch.testing.assert_close(
        loss.sum(logits, labels) / loss.weight(labels), functional.cross_entropy(logits, labels)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_smoothed_loss_is_torch_s(weighted: bool) -> None:
    torch.manual_seed(3)
    labels, logits = torch.tensor([0, 1, 1, 2, 1]), torch.randn(5, 3)
    loss = Loss("multiclass", labels, 3, smoothing=0.1, weighted=weighted)
    weights = torch.tensor([5 / 3, 5 / 9, 5 / 3]) if weighted else None
    torch.testing.assert_close(
        loss.sum(logits, labels) / loss.weight(labels),
        functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1),
    )


def test_multilabel_loss_is_binary_cross_entropy() -> None:
    torch.manual_seed(2)
    labels = torch.tensor([[0, 1], [1, 1], [0, 0], [0, 0]])
    logits = torch.randn(4, 2)
    plain = Loss("multilabel", labels, 2)
    expected = functional.binary_cross_entropy_with_logits(logits, labels.float())
    torch.testing.assert_close(plain.sum(logits, labels) / plain.weight(labels), expected)
    weighted = Loss("multilabel", labels, 2, smoothing=0.2, weighted=True)
    expected = functional.binary_cross_entropy_with_logits(
        logits, labels.float() * 0.8 + 0.1, pos_weight=torch.tensor([3.0, 1.0])
    )
    torch.testing.assert_close(weighted.sum(logits, labels) / weighted.weight(labels), expected)


def test_a_class_without_training_images_has_no_weight() -> None:
    loss = Loss("multiclass", torch.tensor([0, 1, 1]), 3, weighted=True)
    assert torch.isfinite(loss.sum(torch.zeros(2, 3), torch.tensor([0, 1])))


def test_labels_that_are_not_known_have_no_part_in_the_loss() -> None:
    labels = torch.tensor([[1, UNKNOWN], [UNKNOWN, 0], [0, 1], [UNKNOWN, UNKNOWN]])
    logits = torch.tensor([[2.0, 9.0], [-9.0, 1.0], [0.5, -1.0], [7.0, 7.0]], requires_grad=True)
    loss = Loss("multilabel", labels, 2)
    mean = loss.sum(logits, labels) / loss.weight(labels)
    each = [
        math.log1p(math.exp(-2.0)),
        math.log1p(math.exp(1.0)),
        math.log1p(math.exp(0.5)),
        math.log1p(math.e),
    ]
    assert mean.item() == pytest.approx(sum(each) / 4, abs=1e-6)
    mean.backward()
    assert logits.grad is not None
    assert ((logits.grad == 0) == (labels == UNKNOWN)).all()
    # In two parts, as memory may ask for.
    parts = [loss.sum(logits[p], labels[p]).item() for p in (slice(0, 1), slice(1, 4))]
    assert sum(parts) / float(loss.weight(labels)) == pytest.approx(mean.item(), abs=1e-6)
    nothing = labels[3:]
    assert (loss.sum(logits[3:], nothing) / loss.weight(nothing)).item() == 0.0


def test_class_weights_count_known_labels_only() -> None:
    labels = torch.tensor([[1, 1], [0, UNKNOWN], [0, 0], [UNKNOWN, 0]])
    loss = Loss("multilabel", labels, 2, weighted=True)
    logits = torch.zeros(4, 2)
    # Present labels weigh absent / present = 2; three known labels of each column.
    expected = math.log(2) * (2 * 2 + 4) / 6
    assert (loss.sum(logits, labels) / loss.weight(labels)).item() == pytest.approx(expected, abs=1e-6)

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

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

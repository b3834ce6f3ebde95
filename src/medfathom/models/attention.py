"""A head that also tells how much each image of a case counts: gated attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 128
"""Of the hidden layer of the attention, as Ilse, Tomczak and Welling have it (ICML 2018)."""


class AttentionHead(nn.Module):
    """Features (n, f) of images -> (n, K + 1): their logits, and a score.

    The softmax of the scores over a case's images weighs their logits: `metrics.cases.combine_logits`, and
    `attended` in training. Gated attention, equation 9 of Ilse, Tomczak and Welling (ICML 2018).
    """

    def __init__(self, classifier: nn.Module, features: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.value, self.gate = nn.Linear(features, WIDTH), nn.Linear(features, WIDTH)
        self.score = nn.Linear(WIDTH, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, and the score as the last column."""
        hidden = torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features))
        return torch.cat([self.classifier(features), self.score(hidden)], dim=1)


def attended(outputs: Tensor, member: Tensor, n_cases: int) -> Tensor:
    """Logits of cases (m, K) from what an attention head says of their images, (n, K + 1).

    Args:
        outputs: of the head.
        member: each image's case, from 0 without gaps, (n,).
        n_cases: m.
    """
    logits, scores = outputs[:, :-1].float(), outputs[:, -1].float()
    largest = torch.full((n_cases,), -torch.inf, device=scores.device)
    largest = largest.scatter_reduce(0, member, scores.detach(), "amax")
    weights = torch.exp(scores - largest[member])[:, None]
    sums = torch.zeros(n_cases, logits.shape[1] + 1, device=logits.device)
    sums = sums.index_add(0, member, torch.cat([weights * logits, weights], dim=1))
    return sums[:, :-1] / sums[:, -1:]

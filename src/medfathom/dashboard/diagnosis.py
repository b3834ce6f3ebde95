"""What a trial's numbers suggest, by rules that are stated with every finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from medfathom.study.summary import completed

OVERFIT_RISE = 0.10
"""Validation loss above its minimum, while training loss still falls as much."""

OVERFIT_GAP = 0.10
"""AUC on training images above the validation AUC."""

UNDERFIT_FALL = 0.10
"""Training loss that fell less than this hardly learned."""

STILL_RISING = 0.01
"""AUC gained in the last third of the epochs."""

NO_GAIN = 0.005
"""AUC that pretraining must bring beyond weights drawn at random."""

TOO_EASY = 0.90
"""AUC of features drawn at random, nothing of them trained."""

BORDER = 0.60
"""Of Grad-CAM, in the outermost tenth on each side, which is 36 % of the area."""

DRAWN = ("random", "imagenet-stats")
"""Inits without pretrained features."""


@dataclass(frozen=True)
class Finding:
    """A word and the numbers behind it."""

    word: str
    why: str

    def __str__(self) -> str:
        return f"**{self.word}**: {self.why}"


def diagnose(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> list[Finding]:
    """Findings about one trial, beside all trials of its study; empty where no rule applies."""
    aucs = [auc for _, auc in sorted(trial.intermediate_values.items())]
    attributes = trial.user_attrs
    losses: Mapping[str, list[float]] = attributes.get("losses", {})
    return [
        *_overfitting(attributes, losses.get("train", []), losses.get("val", [])),
        *_underfitting(losses.get("train", []), aucs, ended=trial.state == TrialState.COMPLETE),
        *_pretraining(trial, others),
        *_shortcut(attributes, aucs),
    ]


def _overfitting(
    attributes: Mapping[str, Any], train: Sequence[float], val: Sequence[float]
) -> list[Finding]:
    ours, theirs = attributes.get("train_auc"), attributes.get("auc")
    if ours is not None and theirs is not None and ours - theirs >= OVERFIT_GAP:
        why = f"AUC {ours:.3f} on training images, {theirs:.3f} on validation (rule: {OVERFIT_GAP} apart)"
        return [Finding("overfitting", why)]
    if len(val) < 3 or len(train) != len(val):
        return []
    best = min(range(len(val)), key=lambda i: val[i])
    rise, fall = val[-1] / max(val[best], 1e-9) - 1, 1 - train[-1] / max(train[best], 1e-9)
    if best == len(val) - 1 or rise < OVERFIT_RISE or fall < OVERFIT_RISE:
        return []
    return [
        Finding(
            "overfitting",
            f"since epoch {best + 1} validation loss rose by {rise:.0%} ({val[best]:.3f} to {val[-1]:.3f}) "
            f"while training loss fell by {fall:.0%} (rule: both by {OVERFIT_RISE:.0%} or more)",
        )
    ]


def _underfitting(train: Sequence[float], aucs: Sequence[float], *, ended: bool) -> list[Finding]:
    """Only of a trial that ran its full length: of one that was stopped it is no wonder."""
    if not ended:
        return []
    if len(train) >= 2 and train[-1] > (1 - UNDERFIT_FALL) * train[0]:
        return [
            Finding(
                "underfitting",
                f"training loss went from {train[0]:.3f} to {train[-1]:.3f} (rule: it should fall by "
                f"{UNDERFIT_FALL:.0%} or more); a higher learning rate, more epochs or more unfrozen layers",
            )
        ]
    since = len(aucs) - max(1, len(aucs) // 3) - 1
    if len(aucs) >= 3 and aucs[-1] - max(aucs[: since + 1]) >= STILL_RISING:
        gain = aucs[-1] - max(aucs[: since + 1])
        return [
            Finding(
                "underfitting",
                f"AUC still rose by {gain:.3f} in the last third of the epochs (rule: {STILL_RISING} or "
                "more); more epochs",
            )
        ]
    return []


def _pretraining(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> list[Finding]:
    """Compares the best of both sides, so that one unlucky trial accuses nothing. Complete trials only."""
    mine = trial.user_attrs
    if trial.state != TrialState.COMPLETE or mine.get("init") in (None, *DRAWN):
        return []
    same = [
        t
        for t in completed([*others, trial])
        if all(t.user_attrs.get(k) == mine.get(k) for k in ("architecture", "unfreeze_depth"))
    ]
    with_ = [t.value for t in same if t.user_attrs["init"] == mine["init"] and t.value is not None]
    without = [t.value for t in same if t.user_attrs["init"] in DRAWN and t.value is not None]
    if not with_ or not without or max(with_) - max(without) >= NO_GAIN:
        return []
    return [
        Finding(
            "pretraining without gain",
            f"with {mine['architecture']} at unfreeze_depth {mine['unfreeze_depth']} the best AUC is "
            f"{max(with_):.4f} from {mine['init']} and {max(without):.4f} from weights drawn at random "
            f"(rule: less than {NO_GAIN} more)",
        )
    ]


def _shortcut(attributes: Mapping[str, Any], aucs: Sequence[float]) -> list[Finding]:
    found = []
    untrained = attributes.get("init") in DRAWN and attributes.get("unfreeze_depth") == 0
    if untrained and aucs and aucs[-1] >= TOO_EASY:
        found.append(
            f"features drawn at random, none of them trained, reach AUC {aucs[-1]:.3f} (rule: {TOO_EASY} or "
            "more)"
        )
    border = attributes.get("cam_border_share")
    if border is not None and border >= BORDER:
        found.append(
            f"{border:.0%} of Grad-CAM lies in the outermost tenth of the image, which is 36 % of its area "
            f"(rule: {BORDER:.0%} or more)"
        )
    advice = "; the label may be readable beside the point: `medfathom data check` looks for that"
    return [Finding("shortcut suspected", why + advice) for why in found]

"""What a trial's numbers suggest. Each finding states its rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.strategies import DRAWN
from medfathom.study.record import auc_of, record_of
from medfathom.trial.record import Losses, TrialRecord

OVERFIT_RISE = 0.10
"""Rise of the validation loss above its minimum, while the training loss falls by as much."""

OVERFIT_GAP = 0.10
"""AUC on training images above the validation AUC."""

DIVERGED_RISE = 0.10
"""Rise of the training loss from the first epoch to the last."""

UNDERFIT_FALL = 0.10
"""A trial whose training loss fell by less than this hardly learned."""

STILL_RISING = 0.01
"""AUC gained in the last third of the epochs."""

NO_GAIN = 0.005
"""AUC that pretrained weights must bring beyond random ones."""

TOO_EASY = 0.90
"""AUC of an untrained network's features."""

BORDER = 0.60
"""Share of Grad-CAM in the outermost tenth on each side, which is 36 % of the area."""

DOMAIN_SHIFT = 0.02
"""AUC that pretrained, frozen groups lose against the same network with more of them trained."""

SIGNATURES = (
    "overfitting",
    "underfitting",
    "diverged",
    "domain shift",
    "pretraining without gain",
    "shortcut suspected",
)
"""What a finding may be called, in the order of reports."""


@dataclass(frozen=True)
class Finding:
    """A word and the numbers behind it."""

    word: str
    why: str

    def __str__(self) -> str:
        return f"**{self.word}**: {self.why}"


def diagnose(trial: FrozenTrial, others: Iterable[FrozenTrial]) -> list[Finding]:
    """Findings about one trial, compared with all trials of its study; empty where there is no problem."""
    return _findings(trial, _best_aucs([*others, trial]))


def signatures(trials: Sequence[FrozenTrial]) -> dict[int, set[str]]:
    """Number of each trial that is complete or was stopped early -> what its findings are called."""
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.user_attrs]
    best = _best_aucs(ended)
    return {t.number: {finding.word for finding in _findings(t, best)} for t in ended}


def _findings(trial: FrozenTrial, best: BestAucs) -> list[Finding]:
    record = record_of(trial)
    # Of another objective the curve is of that, and no rule is known for it.
    aucs = [auc for _, auc in sorted(trial.intermediate_values.items()) if record.objective_value is None]
    losses = record.losses or Losses(train=[], val=[])
    folds = record.fold_aucs or []
    if len(folds) > 1:
        record, losses, aucs = _last_fold(record, folds, losses, aucs)
    curves = [
        *_overfitting(record, losses),
        *(_divergence(losses.train) or _underfitting(trial, losses.train, aucs)),
    ]
    if len(folds) > 1:
        curves = [Finding(each.word, f"in the last fold, {each.why}") for each in curves]
    return [
        *curves,
        *_domain_shift(trial, best),
        *_pretraining(trial, best),
        *_shortcut(trial),
    ]


def _last_fold(
    record: TrialRecord, folds: Sequence[float], losses: Losses, aucs: Sequence[float]
) -> tuple[TrialRecord, Losses, list[float]]:
    """The AUC and the curves of the last fold alone: each fold is a training of its own."""
    count, ended = len(folds), record.epochs or 0
    epochs = ended // count if ended % count == 0 else 0  # of a fold; 0: it was not trained to its end
    own = (
        Losses(train=losses.train[-epochs:], val=losses.val[-epochs:]) if epochs else Losses(train=[], val=[])
    )
    # What a trial reports is the mean over its folds so far.
    curve = [count * auc - sum(folds[:-1]) for auc in aucs[-epochs:]] if epochs else []
    return record.model_copy(update={"auc": folds[-1]}), own, curve


BestAucs = Mapping[tuple[object, object, object], Mapping[int, float]]
"""Architecture, init and strategy -> unfreeze depth -> the best validation AUC of the complete trials."""


def _best_aucs(trials: Iterable[FrozenTrial]) -> BestAucs:
    found: defaultdict[tuple[object, object, object], dict[int, float]] = defaultdict(dict)
    for trial in trials:
        auc, depth = auc_of(trial), trial.user_attrs.get("unfreeze_depth")
        if trial.state == TrialState.COMPLETE and auc is not None and depth is not None:
            of_network = found[_network_of(trial, trial.user_attrs.get("init"))]
            of_network[depth] = max(auc, of_network.get(depth, 0.0))
    return found


def _network_of(trial: FrozenTrial, init: object) -> tuple[object, object, object]:
    return trial.user_attrs.get("architecture"), init, trial.user_attrs.get("strategy")


def _overfitting(record: TrialRecord, losses: Losses) -> list[Finding]:
    ours, theirs = record.train_auc, record.auc
    if ours is not None and theirs is not None and ours - theirs >= OVERFIT_GAP:
        why = (
            f"AUC is {ours:.3f} on training images, {theirs:.3f} on validation (rule: {OVERFIT_GAP} or more)"
        )
        return [Finding("overfitting", why)]
    train, val = losses.train, losses.val
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


def _divergence(train: Sequence[float]) -> list[Finding]:
    if len(train) < 2 or train[-1] < (1 + DIVERGED_RISE) * train[0]:
        return []
    return [
        Finding(
            "diverged",
            f"training loss rose from {train[0]:.4g} to {train[-1]:.4g} (rule: a rise of "
            f"{DIVERGED_RISE:.0%} or more). Try a lower learning rate or more warm-up.",
        )
    ]


def _underfitting(trial: FrozenTrial, train: Sequence[float], aucs: Sequence[float]) -> list[Finding]:
    """Only of a trial that ran its full length: one that was stopped early had no time to learn."""
    if trial.state != TrialState.COMPLETE:
        return []
    if len(train) >= 2 and train[-1] > (1 - UNDERFIT_FALL) * train[0]:
        return [
            Finding(
                "underfitting",
                f"training loss went from {train[0]:.3f} to {train[-1]:.3f} (rule: it should fall by "
                f"{UNDERFIT_FALL:.0%} or more). Try a higher learning rate, more epochs or a larger "
                "unfreeze_depth.",
            )
        ]
    since = len(aucs) - max(1, len(aucs) // 3) - 1
    if len(aucs) >= 3 and aucs[-1] - max(aucs[: since + 1]) >= STILL_RISING:
        gain = aucs[-1] - max(aucs[: since + 1])
        return [
            Finding(
                "underfitting",
                f"validation AUC still rose by {gain:.3f} in the last third of the epochs (rule: "
                f"{STILL_RISING} or more). Try more epochs.",
            )
        ]
    return []


def _domain_shift(trial: FrozenTrial, best: BestAucs) -> list[Finding]:
    """Frozen features that do not fit these images: training more of the same network does better."""
    mine = trial.user_attrs
    depth, init = mine.get("unfreeze_depth"), mine.get("init")
    if trial.state != TrialState.COMPLETE or init in (None, *DRAWN) or depth is None:
        return []
    by_depth = best.get(_network_of(trial, init), {})
    here = by_depth.get(depth, 0.0)
    deeper = [(auc, other) for other, auc in by_depth.items() if other > depth]
    highest, highest_depth = max(deeper, default=(0.0, depth))
    if highest - here < DOMAIN_SHIFT:
        return []
    return [
        Finding(
            "domain shift",
            f"with {mine['architecture']} from {init} the best validation AUC is {here:.4f} at "
            f"unfreeze_depth {depth} and {highest:.4f} at {highest_depth} (rule: a gain of {DOMAIN_SHIFT} or "
            "more). Frozen pretrained features do not fit these images; `medfathom data shift` measures the "
            "distance.",
        )
    ]


def _pretraining(trial: FrozenTrial, best: BestAucs) -> list[Finding]:
    """Compares the best complete trials of both sides, so that one unlucky trial decides nothing."""
    mine = trial.user_attrs
    depth, init = mine.get("unfreeze_depth"), mine.get("init")
    if trial.state != TrialState.COMPLETE or init in (None, *DRAWN) or depth is None:
        return []
    with_ = best.get(_network_of(trial, init), {}).get(depth)
    drawn = (best.get(_network_of(trial, name), {}).get(depth) for name in DRAWN)
    without = max((auc for auc in drawn if auc is not None), default=None)
    if with_ is None or without is None or with_ - without >= NO_GAIN:
        return []
    return [
        Finding(
            "pretraining without gain",
            f"with {mine['architecture']} at unfreeze_depth {depth} the best validation AUC "
            f"is {with_:.4f} from {init} and {without:.4f} from random weights (rule: a "
            f"gain of less than {NO_GAIN})",
        )
    ]


def _shortcut(trial: FrozenTrial) -> list[Finding]:
    attributes, auc = trial.user_attrs, auc_of(trial)
    found = []
    untrained = attributes.get("init") in DRAWN and attributes.get("unfreeze_depth") == 0
    if untrained and auc is not None and auc >= TOO_EASY:
        found.append(f"features of an untrained network reach AUC {auc:.3f} (rule: {TOO_EASY} or more)")
    border = attributes.get("cam_border_share")
    if border is not None and border >= BORDER:
        found.append(
            f"{border:.0%} of Grad-CAM is in the outermost tenth of the image, which is 36 % of its area "
            f"(rule: {BORDER:.0%} or more)"
        )
    advice = ". Something other than the disease may show the label; `medfathom data check` tests this."
    return [Finding("shortcut suspected", why + advice) for why in found]

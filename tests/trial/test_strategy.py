"""What each transfer strategy moves, and what it leaves as it was to the last bit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import PhantomDataset
from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import MEANINGS, STEPWISE
from medfathom.errors import DefinitionError, ModelError, OutOfMemoryError
from medfathom.models.adapters import is_of_adapter
from medfathom.models.build import Network
from medfathom.trial import network as trial_network
from medfathom.trial.checkpoint import load_checkpoint
from medfathom.trial.fit import Fit
from medfathom.trial.network import network_of
from medfathom.trial.record import TrialRecord
from medfathom.trial.strategy import Strategy
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

CPU = torch.device("cpu")
EPOCHS = 4
VARYING = ("train_seconds", "images_per_second", "peak_memory_bytes", "feature_cache")
NEEDS_PEFT = pytest.mark.skipif(find_spec("peft") is None, reason="peft, an extra, is not installed")
STRATEGIES = [pytest.param(s, marks=NEEDS_PEFT) if s == "lora" else s for s in MEANINGS]

FAMILIES = {
    "test_resnet": "batch norm",
    "test_vit": "layer norm, a class token",
    "test_convnext": "layer norm and layer scale",
    "test_efficientnet": "depthwise layers, squeeze and excitation",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = PhantomDataset(
        source="phantom-oct", modality="OCT", image_size=32, n_train=24, n_val=12, n_test=6, difficulty=0.2
    )
    return prepare(config, tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def task(data: PreparedData, tmp_path: Path) -> TrialTask:
    training = TrainingConfig(precision="float32", calibrate_batch_norm=False, cached_views=2)
    return TrialTask(data, training, EPOCHS, 7, tmp_path / "cache", tmp_path / "trial.pt", "cpu", 1)


def params(strategy: str, depth: int, **changes: Any) -> TrialParams:
    given = {"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 8}
    return TrialParams.model_validate(
        {**given, "strategy": strategy, "unfreeze_depth": depth, "weight_decay": 0.05, **changes}
    )


@pytest.fixture(autouse=True)
def _any_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a seed stand for pretrained ones, which tests do not download."""
    monkeypatch.setattr("medfathom.definitions.strategies.DRAWN", ())


def whole_state(chosen: TrialParams, task: TrialTask, epochs: int | None = None) -> Mapping[str, Tensor]:
    """All tensors of a trial's network after some epochs; after none, as it began."""
    network = network_of(chosen, task, task.data.split("train"))
    if epochs != 0:
        list(islice(run_trial(chosen, task), epochs))
        checkpoint = load_checkpoint(task.checkpoint or Path(), CPU)
        assert checkpoint is not None
        network.load_trained_state(checkpoint.network)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def expected_to_move(network: Network, strategy: str, depth: int) -> tuple[set[str], set[str]]:
    """Tensors that may move, and those of them that must: parameters with a gradient, statistics of norms."""
    groups = {name: network._group(name) for name in network.backbone.state_dict()}
    chosen = range(1, depth + 1) if strategy == "surgical" else range(6 - depth, 6)
    parameters = dict(network.backbone.named_parameters())
    may = {
        name
        for name in network.backbone.state_dict()
        if groups[name] in chosen
        and not (strategy == "bitfit" and name in parameters and parameters[name].ndim > 1)
        and not (strategy == "lora" and name in parameters and not is_of_adapter(name))
    }
    return {f"backbone.{name}" for name in may}, {f"backbone.{n}" for n in may if "running" in n}


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exactly_what_a_strategy_trains_moves(task: TrialTask, strategy: str, architecture: str) -> None:
    depth = 2
    chosen = params(strategy, depth, architecture=architecture)
    before, after = whole_state(chosen, task, 0), whole_state(chosen, task)
    may, must = expected_to_move(network_of(chosen, task, task.data.split("train")), strategy, depth)
    changed = {name for name in moved(before, after) if name.startswith("backbone.")}
    assert changed <= may
    assert must <= changed
    weights = {name for name in may if before[name].is_floating_point() and before[name].ndim > 0}
    assert len(changed & weights) > 0.8 * len(weights), "a few tensors may have no gradient"
    assert any(name.startswith("head.") for name in moved(before, after))


@pytest.mark.parametrize("strategy", STEPWISE)
def test_what_is_not_open_yet_stands_still_to_the_last_bit(task: TrialTask, strategy: str) -> None:
    chosen = params(strategy, 5)
    before, after = whole_state(chosen, task, 0), whole_state(chosen, task, epochs=1)
    assert {name.partition(".")[0] for name in moved(before, after)} == {"head"}


def test_the_head_alone_learns_what_depth_0_learns(task: TrialTask) -> None:
    probing = list(islice(run_trial(params("lp-ft", 3), task), 2))
    alone = list(islice(run_trial(params("fixed", 0), replace(task, checkpoint=None)), 2))
    assert [r.train_loss for r in probing] == [r.train_loss for r in alone]
    assert [r.auc for r in probing] == [r.auc for r in alone]


def without_varying(records: list[TrialRecord]) -> list[TrialRecord]:
    return [record.model_copy(update=dict.fromkeys(VARYING)) for record in records]


@pytest.mark.parametrize("augmentation", ["none", "oct"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_interrupted_trial_goes_on_in_the_middle_of_a_phase(
    task: TrialTask, strategy: str, augmentation: str
) -> None:
    chosen = params(strategy, 3, augmentation=augmentation, head_dropout=0.3)
    whole = list(run_trial(chosen, replace(task, checkpoint=None)))
    parts = [record for _ in range(EPOCHS) for record in islice(run_trial(chosen, task), 1)]
    assert without_varying(parts) == without_varying(whole)


def test_the_record_says_which_epochs_trained_what(task: TrialTask) -> None:
    last = list(run_trial(params("gradual", 2), task))[-1]
    spans = [(p.first_epoch, p.last_epoch, p.groups) for p in last.phases or ()]
    assert spans == [(1, 1, []), (2, 2, [5]), (3, 4, [4, 5])]
    fixed = list(run_trial(params("fixed", 2), replace(task, checkpoint=None)))[-1]
    assert last.trainable_fraction == fixed.trainable_fraction
    assert last.trainable_layer_fraction == fixed.trainable_layer_fraction
    assert (last.strategy, fixed.strategy) == ("gradual", "fixed")
    assert [(p.first_epoch, p.last_epoch, p.groups) for p in fixed.phases or ()] == [(1, 4, [4, 5])]


def test_features_are_kept_for_the_phases_in_which_a_prefix_stands_still(task: TrialTask) -> None:
    phases = list(run_trial(params("lp-ft", 5), task))[-1].phases or []
    assert [(p.first_epoch, p.last_epoch, p.features_kept) for p in phases] == [(1, 2, True), (3, 4, False)]


def test_fractions_are_of_what_is_trained(task: TrialTask) -> None:
    facts = {
        s: network_of(params(s, 2), task, task.data.split("train")).facts for s in MEANINGS if s != "lora"
    }
    assert facts["lp-ft"] == facts["gradual"] == facts["l2-sp"] == facts["fixed"]
    assert facts["bitfit"].trainable_fraction < facts["fixed"].trainable_fraction
    layers = 1 / 11  # of test_resnet's weighted layers, head included, the head alone has trained weights
    assert facts["bitfit"].trainable_layer_fraction == pytest.approx(layers, abs=0.05)
    assert facts["surgical"].n_trainable_params != facts["fixed"].n_trainable_params


@NEEDS_PEFT
def test_merged_adapters_give_the_same_network_under_its_own_names(task: TrialTask) -> None:
    chosen = params("lora", 3, lora_rank=4)
    list(run_trial(chosen, task))
    checkpoint = load_checkpoint(task.checkpoint or Path(), CPU)
    assert checkpoint is not None
    network, plain = (network_of(c, task, task.data.split("train")) for c in (chosen, params("fixed", 3)))
    assert network.facts.n_params == plain.facts.n_params
    assert network.facts.n_trainable_params < plain.facts.n_trainable_params
    network.load_trained_state(checkpoint.network)
    images = torch.rand(4, 1, 32, 32)
    network.eval()
    before = network(images).detach()
    network.merge_adapters()
    assert set(network.state_dict()) == set(plain.state_dict())
    # In float32, weights and adapters are added in another order: relative to the largest logit.
    torch.testing.assert_close(
        network.eval()(images).detach(), before, rtol=0, atol=1e-5 * float(before.abs().max())
    )
    apart = moved(plain.state_dict(), network.state_dict())
    assert any(name.startswith("backbone.") and name.endswith("weight") for name in apart)


def test_without_peft_lora_says_what_to_install(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"medfathom\[lora\]"):
        next(iter(run_trial(params("lora", 3), task)))


def test_a_pull_keeps_weights_near_their_start(task: TrialTask) -> None:
    def distance(**changes: Any) -> float:
        chosen = params("l2-sp", 5, **changes)
        alone = replace(task, checkpoint=task.cache_dir / f"{len(changes)}.pt")
        before, after = whole_state(chosen, alone, 0), whole_state(chosen, alone)
        names = [n for n, t in before.items() if n.startswith("backbone.") and t.ndim > 1]
        return sum(float((after[n] - before[n]).square().sum()) for n in names)

    assert distance(l2_sp_alpha=10.0) < 0.5 * distance()


def test_memory_is_measured_anew_when_more_is_trained(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head takes a batch at once where the whole network does not; a restart goes on with the parts."""
    measured: list[int] = []

    def little_memory(fit: Fit, rows: object) -> None:
        fit._sized = True
        measured.append(fit._network.unfreeze_depth)
        fit.portions.limit(8 if fit._network.unfreeze_depth == 0 else 4)

    monkeypatch.setattr(Fit, "_size_to_memory", little_memory)
    records = list(run_trial(params("gradual", 2), task))
    assert [r.accumulation for r in records] == [None, *["4 of 8 images at once"] * 3]
    assert measured == [0, 1, 2]


def test_memory_that_runs_out_in_a_later_phase_is_told(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Network.forward_rest

    def greedy(self: Network, features: Tensor) -> Tensor:
        if self.training and self.unfreeze_depth:
            raise MemoryError
        return whole(self, features)

    monkeypatch.setattr(Network, "forward_rest", greedy)
    with pytest.raises(OutOfMemoryError):
        list(run_trial(params("lp-ft", 5), task))


def test_a_loss_that_still_falls_keeps_the_head_alone_for_half_of_the_epochs() -> None:
    strategy = Strategy(params("lp-ft", 5, warmup_fraction=0.0), 10)
    falling = [0.9**epoch for epoch in range(10)]
    assert [len(strategy.trained_in(e, falling[: e - 1])) for e in range(1, 11)] == [0] * 5 + [5] * 5
    settled = [1.0, 0.5, 0.495, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002]
    assert [len(strategy.trained_in(e, settled[: e - 1])) for e in range(1, 11)] == [0] * 3 + [5] * 7


def test_a_loss_in_the_warm_up_settles_nothing() -> None:
    strategy = Strategy(params("lp-ft", 5, warmup_fraction=0.3), 10)
    assert strategy.trained_in(4, [1.0, 1.0, 1.0]) == frozenset()
    assert strategy.trained_in(6, [1.0, 1.0, 1.0, 0.9, 0.9]) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("epochs", [2, 3, 5, 12, 50])
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_gradual_opens_everything_by_the_middle(depth: int, epochs: int) -> None:
    strategy = Strategy(params("gradual", depth), epochs)
    opened = [strategy.trained_in(epoch, ()) for epoch in range(1, epochs + 1)]
    assert opened[0] == frozenset()
    assert all(earlier <= later for earlier, later in pairwise(opened))
    assert all(groups == set(range(6 - depth, 6)) for groups in opened[epochs // 2 + epochs % 2 :])
    assert sum(map(strategy.expected_epochs, strategy.stages())) == epochs


def test_what_means_nothing_is_refused(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for chosen in (params("surgical", 0), params("surgical", 5), params("l2-sp", 3), params("lp-ft", 0)):
        with pytest.raises(DefinitionError, match="means nothing with unfreeze_depth"):
            next(iter(run_trial(chosen, task)))


def test_a_random_network_is_calibrated_as_a_whole_before_its_head_is_trained_alone(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(trial_network, "calibrate_batch_norm", lambda n, _: seen.append(n.frozen_groups))
    calibrated = replace(task, training=TrainingConfig(precision="float32"))
    for strategy, depth in (("lp-ft", 5), ("gradual", 2), ("fixed", 2), ("fixed", 5)):
        network_of(params(strategy, depth), calibrated, task.data.split("train"))
    assert seen == [5, 5, 3]

"""benchmarks/replay: a search on recorded trials follows its clock, and what is recorded can be searched."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfathom.definitions.config import SamplerConfig, SchedulerConfig
from medfathom.definitions.space import SpaceConfig, TrialParams
from medfathom.study.sampling import make_sampler

REPLAY = Path(__file__).resolve().parents[2] / "benchmarks" / "replay"


@pytest.fixture(autouse=True)
def replay_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPLAY))


def made_table(seed: int, epochs: int = 4):  # type: ignore[no-untyped-def]
    """18 trials whose curves rise; a second of an epoch for each unfrozen layer group."""
    from tables import Recorded, Table, key_of  # noqa: PLC0415  beside the benchmark, not a package

    generator = np.random.default_rng(seed)
    space = SpaceConfig.model_validate(
        {
            "architecture": {"choices": ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]},
            "unfreeze_depth": {"choices": [0, 3, 5]},
            "learning_rate": {"choices": [1e-3, 3e-3, 1e-2]},
        }
    )
    trials = {}
    for architecture in space.values("architecture"):
        for depth in space.values("unfreeze_depth"):
            for rate in space.values("learning_rate"):
                params = TrialParams(
                    architecture=str(architecture), unfreeze_depth=int(depth), learning_rate=float(rate)
                )
                end = generator.uniform(0.6, 0.9)
                aucs = tuple(0.5 + (end - 0.5) * (e / epochs) ** 0.5 for e in range(1, epochs + 1))
                seconds = (float(depth) + 1,) * epochs
                trials[key_of(params)] = Recorded(params, aucs, aucs, seconds, 0.5, depth < 5, end - 0.01)
    return Table("made", space, epochs, trials)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 99),
    name=st.sampled_from(["random", "grid", "gain"]),
    stop=st.sampled_from(["none", "asha", "curve"]),
    workers=st.integers(1, 4),
)
def test_the_clock_of_a_replay_is_its_workers_time(seed: int, name: str, stop: str, workers: int) -> None:
    """What workers did is no more than they had, and nearly all of it unless trials are stopped."""
    from replay import Replay  # noqa: PLC0415

    table = made_table(seed)
    config = SamplerConfig.model_validate({"name": name, "portfolio": "off"})

    def run(until: float):  # type: ignore[no-untyped-def]
        sampler = make_sampler(config, table.space, seed, epochs=table.epochs)
        return Replay(table, sampler, SchedulerConfig.model_validate({"name": stop}), workers, until).run()

    until = table.seconds / workers
    points = run(until)
    assert points == run(until)
    assert [p.at for p in points] == sorted(p.at for p in points)
    assert run(until / 2) == [p for p in points if p.at <= until / 2]
    spent = sum(sum(t.seconds) for p in points for t in table.trials.values() if t.aucs[-1] == p.auc)
    assert spent <= workers * until + 1e-9
    longest = max(sum(t.seconds) for t in table.trials.values()) + table.seconds / 18
    assert stop != "none" or spent >= workers * (until - 2 * longest)


def test_the_recorded_curves_are_whole() -> None:
    from tables import recorded  # noqa: PLC0415

    tables = recorded()
    assert len(tables) >= 4
    for table in tables:
        assert {len(t.aucs) for t in table.trials.values()} == {table.epochs}
        assert all(0 <= auc <= 1 for t in table.trials.values() for auc in (*t.aucs, t.test_auc))
        assert table.seconds > sum(sum(t.seconds) for t in table.trials.values())

"""A short storm: `benchmarks/chaos.py` is the long one."""

from pathlib import Path

import pytest

from faults import dealt, possible
from storm_storages import SqliteFile
from storms import Run, Storm
from wrong_clock import build_clock


@pytest.mark.parametrize("seed", [1])
def test_a_storm_loses_nothing(tmp_path: Path, seed: int) -> None:
    storage = SqliteFile(tmp_path / "medfathom.db", mounted=None)
    clock = build_clock(tmp_path)
    faults = dealt(possible(storage, older=False, wrong_clock=clock), seed, 3)
    storm = Storm(
        tmp_path, seed, storage, [Run("storm", 12)], faults, pause_s=3.0, clock=tmp_path if clock else None
    )
    storm.blow()
    assert storm.verdict() == []
    assert sum(storm.counted[kind] for kind in faults) == 3


def test_faults_are_dealt_evenly() -> None:
    kinds = ["a", "b", "c"]
    hands = [fault for hand in range(6) for fault in dealt(kinds, hand, 2)]
    assert sorted(hands) == sorted(kinds * 4)

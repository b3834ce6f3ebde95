"""A short storm: `benchmarks/chaos.py` is the long one."""

from pathlib import Path

from faults import dealt, possible
from storm_storages import SqliteFile
from storms import Run, Storm
from wrong_clock import build_clock


def test_a_storm_loses_nothing(tmp_path: Path) -> None:
    storage = SqliteFile(tmp_path / "medfathom.db", mounted=None)
    clock = build_clock(tmp_path)
    faults = dealt(possible(storage, older=False, wrong_clock=clock), 0, 3)
    storm = Storm(
        tmp_path, 1, storage, [Run("storm", 8)], faults, pause_s=2.0, clock=tmp_path if clock else None
    )
    storm.blow()
    assert storm.verdict() == []
    assert sum(storm.counted[kind] for kind in faults) == 3


def test_faults_are_dealt_evenly() -> None:
    kinds = ["a", "b", "c"]
    hands = [fault for hand in range(6) for fault in dealt(kinds, hand, 2)]
    assert sorted(hands) == sorted(kinds * 4)

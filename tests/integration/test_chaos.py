"""A short storm: `benchmarks/chaos.py` is the long one."""

from pathlib import Path

import pytest

from storms import FAULTS, storm


@pytest.mark.parametrize("seed", [1])
def test_a_storm_loses_nothing(tmp_path: Path, seed: int) -> None:
    # A full disk needs a file system of its own.
    kinds = [kind for kind in FAULTS if kind != "full"]
    one = storm(tmp_path, seed, trials=12, kinds=kinds, pause_s=3.0)
    one.blow(3)
    assert one.verdict() == []
    assert sum(one.counted[kind] for kind in kinds) == 3

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfathom.trial.features import cache as feature_cache
from medfathom.trial.features.cache import Content, FeatureCache, key_digest

SHAPE = (10, 3)
FLOAT32 = np.dtype(np.float32)


ALL = np.arange(30, dtype=np.float32).reshape(SHAPE)


def content(offset: float = 0.0, rows: int = 10) -> Callable[[], Content]:
    """Three shards of four, four and two rows."""
    return lambda: Content((rows, 3), FLOAT32, lambda start, stop: ALL[start:stop] + offset, alignment=4)


def never(*_: Any) -> Content:
    pytest.fail("the entry is there: it must not be computed again")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features", limit_bytes=1000)


def files(cache: FeatureCache, pattern: str = "*") -> list[str]:
    return sorted(file.name for file in cache.folder.glob(pattern) if file.suffix != ".lock")


def test_built_once_then_read(cache: FeatureCache) -> None:
    first = cache.open_or_build({"cut": 5}, content())
    assert first.built
    again = cache.open_or_build({"cut": 5}, never)
    assert not again.built
    np.testing.assert_array_equal(again.array, ALL)
    assert not again.array.flags.writeable
    assert cache.has({"cut": 5})
    assert not cache.has({"cut": 4})


def test_every_part_of_the_key_counts() -> None:
    key = {"data": "a", "cut": 3, "view": "none"}
    changed = [{**key, "data": "b"}, {**key, "cut": 2}, {**key, "view": "flip/0"}]
    assert len({key_digest(k) for k in [key, *changed]}) == 4
    assert key_digest(key) == key_digest(dict(reversed(key.items())))


@pytest.mark.parametrize("damage", ["bit", "short", "long", "manifest", "foreign"])
def test_torn_entries_are_built_anew(
    cache: FeatureCache, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.open_or_build({}, content())
    data = next(cache.folder.glob("*.bin"))
    written = bytearray(data.read_bytes())
    if damage == "bit":
        written[17] ^= 1
        data.write_bytes(written)
    elif damage == "short":
        data.write_bytes(written[:-1])
    elif damage == "long":
        data.write_bytes(bytes(written) + b"x")
    else:
        data.with_suffix(".json").write_text('{"key": {}, "sh' if damage == "manifest" else "[]")
    monkeypatch.setattr(feature_cache, "_checked", set())  # as another process sees it
    entry = cache.open_or_build({}, content(5.0))
    assert entry.built
    np.testing.assert_array_equal(entry.array, ALL + 5)


def test_data_without_manifest_is_no_entry(cache: FeatureCache) -> None:
    """As a process killed between its two renames leaves it."""
    cache.open_or_build({}, content())
    next(cache.folder.glob("*.json")).unlink()
    assert cache.open_or_build({}, content()).built


def test_the_least_recently_used_goes_first(cache: FeatureCache) -> None:
    n_bytes = 10 * 3 * 4
    cache.limit_bytes = 3 * n_bytes
    for name in ("a", "b", "c"):
        cache.open_or_build({"name": name}, content())
    for age, name in enumerate(("b", "c", "a")):
        os.utime(cache.folder / f"{key_digest({'name': name})}.json", ns=(age, age))
    cache.open_or_build({"name": "b"}, never)  # used again: now the youngest
    cache.open_or_build({"name": "d"}, content())
    assert [name for name in "abcd" if cache.has({"name": name})] == ["a", "b", "d"]
    assert sum(file.stat().st_size for file in cache.folder.glob("*.bin")) <= cache.limit_bytes


def test_a_removed_entry_stays_readable_where_it_is_open(cache: FeatureCache) -> None:
    entry = cache.open_or_build({"name": "a"}, content())
    cache.limit_bytes = 0
    cache.make_room(0)
    assert files(cache) == []
    np.testing.assert_array_equal(entry.array, ALL)


def test_a_full_disk_leaves_nothing_behind(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        cache.open_or_build({}, content())
    assert files(cache) == []


def test_a_failing_computation_makes_no_entry(cache: FeatureCache) -> None:
    def fails(start: int, stop: int) -> np.ndarray:
        if start > 0:
            raise RuntimeError("device lost")
        return ALL[start:stop]

    with pytest.raises(RuntimeError, match="device lost"):
        cache.open_or_build({}, lambda: Content(SHAPE, FLOAT32, fails, alignment=4))
    assert not cache.has({})
    np.testing.assert_array_equal(cache.open_or_build({}, content()).array, ALL)


def test_a_write_that_fails_halfway_leaves_nothing_behind(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        cache.open_or_build({}, content())
    assert files(cache) == []


def test_too_few_rows_are_refused(cache: FeatureCache) -> None:
    with pytest.raises(ValueError, match=r"rows 8 to 12 of \(12, 3\) were wanted, but \(2, 3\) came"):
        cache.open_or_build({}, content(rows=12))
    assert not cache.has({})


def test_shards_cover_the_rows_and_are_few() -> None:
    for n, alignment in ((1, 1), (10, 4), (64, 1), (65, 1), (5000, 64), (10**6, 64)):
        shards = Content((n, 3), FLOAT32, lambda start, stop: ALL, alignment).shards
        assert len(shards) <= 64
        assert [start for start, _ in shards[1:]] == [stop for _, stop in shards[:-1]]
        assert (shards[0][0], shards[-1][1]) == (0, n)
        assert all(start % alignment == 0 for start, _ in shards)


SPAWN = multiprocessing.get_context("spawn")


def _build_counting(folder: Path, rows: Synchronized[int], barrier: Barrier) -> None:
    def counted(start: int, stop: int) -> np.ndarray:
        with rows.get_lock():
            rows.value += stop - start
        return ALL[start:stop]

    barrier.wait(60)
    entry = FeatureCache(folder, 1000).open_or_build({}, lambda: Content(SHAPE, FLOAT32, counted))
    np.testing.assert_array_equal(entry.array, ALL)


def test_two_processes_compute_every_row_once(tmp_path: Path) -> None:
    rows, barrier = SPAWN.Value("i", 0), SPAWN.Barrier(2)
    processes = [SPAWN.Process(target=_build_counting, args=(tmp_path, rows, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert rows.value == 10


def _build_until_shard(folder: Path, last: int, reached: Event) -> None:
    def stops(start: int, stop: int) -> np.ndarray:
        if start == last:
            reached.set()
            SPAWN.Event().wait()
        return ALL[start:stop]

    FeatureCache(folder, 1000).open_or_build({}, lambda: Content(SHAPE, FLOAT32, stops, alignment=4))


def test_a_killed_builder_blocks_nobody_and_what_it_finished_stays(tmp_path: Path) -> None:
    reached = SPAWN.Event()
    process = SPAWN.Process(target=_build_until_shard, args=(tmp_path, 4, reached))
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join(60)
    computed = []

    def rest(start: int, stop: int) -> np.ndarray:
        computed.append(start)
        return ALL[start:stop]

    cache = FeatureCache(tmp_path, 1000)
    entry = cache.open_or_build({}, lambda: Content(SHAPE, FLOAT32, rest, alignment=4))
    np.testing.assert_array_equal(entry.array, ALL)
    assert computed == [4, 8]
    assert sorted(file.suffix for file in tmp_path.iterdir() if file.suffix != ".lock") == [".bin", ".json"]


def test_a_torn_part_of_an_earlier_build_is_computed_anew(tmp_path: Path) -> None:
    """As a machine that lost its power leaves it: the receipt is there, the rows are not."""
    cache = FeatureCache(tmp_path, 1000)
    digest = key_digest({})
    (tmp_path / f"{digest}.part").write_bytes(bytes(120))
    (tmp_path / f"{digest}.0.done").write_text("0" * 64)
    np.testing.assert_array_equal(cache.open_or_build({}, content()).array, ALL)


def test_abandoned_builds_make_room(tmp_path: Path) -> None:
    (tmp_path / "old.part").write_bytes(bytes(500))
    (tmp_path / "old.3.done").write_text("x")
    (tmp_path / "new.part").write_bytes(bytes(500))
    os.utime(tmp_path / "old.part", (0, 0))
    FeatureCache(tmp_path, 1000).make_room(100)
    assert sorted(f.name for f in tmp_path.iterdir() if f.suffix != ".lock") == ["new.part"]


def test_an_entry_is_checked_once_by_each_process(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_checked", set())
    cache.open_or_build({}, content())
    assert len(feature_cache._checked) == 1
    data = next(cache.folder.glob("*.bin"))
    times = (data.stat().st_atime_ns, data.stat().st_mtime_ns)
    data.write_bytes(bytes(120))
    os.utime(data, ns=times)  # to this process it looks as when it was checked
    assert not cache.open_or_build({}, never).built
    monkeypatch.setattr(feature_cache, "_checked", set())
    assert cache.open_or_build({}, content()).built


def test_the_manifest_says_what_the_entry_is(cache: FeatureCache) -> None:
    cache.open_or_build({"architecture": "resnet18"}, content())
    facts = json.loads(next(cache.folder.glob("*.json")).read_text())
    assert facts["key"] == {"architecture": "resnet18"}
    assert (facts["shape"], facts["bytes"]) == ([10, 3], 120)

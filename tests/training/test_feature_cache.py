from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfathom.training import feature_cache
from medfathom.training.feature_cache import Content, FeatureCache, key_digest

SHAPE = (10, 3)
FLOAT32 = np.dtype(np.float32)


def chunks(value: float = 1.0, rows: int = 10) -> Iterator[np.ndarray]:
    yield np.full((rows // 2, 3), value, np.float32)
    yield np.full((rows - rows // 2, 3), value + 1, np.float32)


def content(value: float = 1.0, rows: int = 10) -> Callable[[], Content]:
    return lambda: Content(SHAPE, FLOAT32, chunks(value, rows))


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
    np.testing.assert_array_equal(again.array, np.concatenate(list(chunks())))
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
    np.testing.assert_array_equal(entry.array, np.concatenate(list(chunks(5.0))))


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
    np.testing.assert_array_equal(entry.array, np.concatenate(list(chunks())))


def test_a_full_disk_leaves_nothing_behind(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        cache.open_or_build({}, content())
    assert files(cache) == []


def test_a_failing_computation_leaves_nothing_behind(cache: FeatureCache) -> None:
    def fails() -> Iterator[np.ndarray]:
        yield np.zeros((5, 3), np.float32)
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        cache.open_or_build({}, lambda: Content(SHAPE, FLOAT32, fails()))
    assert files(cache) == []
    assert cache.open_or_build({}, content()).built


def test_too_few_rows_are_refused(cache: FeatureCache) -> None:
    with pytest.raises(ValueError, match="120 bytes were announced, but 96 came"):
        cache.open_or_build({}, content(rows=8))
    assert files(cache) == []


SPAWN = multiprocessing.get_context("spawn")


def _build_counting(folder: Path, builds: Synchronized[int]) -> None:
    def counted() -> Iterator[np.ndarray]:
        with builds.get_lock():
            builds.value += 1
        yield from chunks()

    FeatureCache(folder, 1000).open_or_build({}, lambda: Content(SHAPE, FLOAT32, counted()))


def test_two_processes_build_once(tmp_path: Path) -> None:
    builds = SPAWN.Value("i", 0)
    processes = [SPAWN.Process(target=_build_counting, args=(tmp_path, builds)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert builds.value == 1


def _build_forever(folder: Path, halfway: Event) -> None:
    def endless() -> Iterator[np.ndarray]:
        yield next(chunks())
        halfway.set()
        SPAWN.Event().wait()

    FeatureCache(folder, 1000).open_or_build({}, lambda: Content(SHAPE, FLOAT32, endless()))


def test_a_killed_builder_blocks_nobody(tmp_path: Path) -> None:
    halfway = SPAWN.Event()
    process = SPAWN.Process(target=_build_forever, args=(tmp_path, halfway))
    process.start()
    assert halfway.wait(60)
    process.kill()
    process.join(60)
    cache = FeatureCache(tmp_path, 1000)
    assert len(files(cache, "*.part")) == 1
    assert cache.open_or_build({}, content()).built
    assert files(cache, "*.part") == []


def test_an_entry_is_checked_once_by_each_process(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_checked", set())
    cache.open_or_build({}, content())
    assert len(feature_cache._checked) == 1
    monkeypatch.setattr(feature_cache.hashlib, "file_digest", never)
    cache.open_or_build({}, never)


def test_the_manifest_says_what_the_entry_is(cache: FeatureCache) -> None:
    cache.open_or_build({"architecture": "resnet18"}, content())
    facts = json.loads(next(cache.folder.glob("*.json")).read_text())
    assert facts["key"] == {"architecture": "resnet18"}
    assert (facts["shape"], facts["bytes"]) == ([10, 3], 120)

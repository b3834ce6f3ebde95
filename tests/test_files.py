"""One atomic write: an interrupted one leaves the old content and no temporary file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfathom.files import write_atomically


class StoppedError(Exception):
    """What stops a write half-way."""


def write_a_part(path: Path) -> None:
    path.write_bytes(b"new, but not all of")
    raise StoppedError


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
def test_content_arrives_byte_for_byte(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_callback_writes_to_a_path_in_the_same_folder(tmp_path: Path) -> None:
    path, given_paths = tmp_path / "file.bin", []

    def write(part: Path) -> None:
        given_paths.append(part)
        part.write_bytes(b"abc")

    write_atomically(path, write)
    assert path.read_bytes() == b"abc"
    assert given_paths[0].parent == tmp_path
    assert given_paths[0] != path
    assert not given_paths[0].exists()


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("failing", ["callback", "write", "fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, old: bytes | None
) -> None:
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_bytes(old)
    content: str | Callable[[Path], object] = write_a_part if failing == "callback" else "new"
    with monkeypatch.context() as patch:
        if failing == "write":
            patch.setattr(Path, "write_bytes", full)
        elif failing == "fsync":
            patch.setattr(os, "fsync", full)
        elif failing == "replace":
            patch.setattr(Path, "replace", full)
        with pytest.raises((OSError, StoppedError)):
            write_atomically(path, content)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == (
        {} if old is None else {"file.txt": old}
    )


@pytest.mark.parametrize("sync", [True, False])
def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    path, synced, fsync = tmp_path / "file.txt", [], os.fsync
    path.write_bytes(b"old")

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", seen)
    write_atomically(path, b"whole", sync=sync)
    assert synced == ([(path.stat().st_ino, 5, b"old")] if sync else [])


def test_threads_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path, barrier, failures = tmp_path / "file.txt", Barrier(4), []

    def write(letter: bytes) -> None:
        def slowly(part: Path) -> None:
            part.write_bytes(letter * 10)
            barrier.wait(60)  # all four are half-way now
            if part.read_bytes() != letter * 10:
                failures.append(letter)

        write_atomically(path, slowly)

    threads = [Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert path.read_bytes() in (b"a" * 10, b"b" * 10, b"c" * 10, b"d" * 10)
    assert list(tmp_path.iterdir()) == [path]

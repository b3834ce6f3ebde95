"""Processes give what threads give; one that dies is told, and the run goes on later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import class_folders, config
from medfathom.data import decoding
from medfathom.data.prepare import prepare
from medfathom.data.sources import files
from medfathom.data.workers import Processes
from medfathom.errors import RunError


def own_id(items: Sequence[Any]) -> list[int]:
    return [os.getpid() for _ in items]


def fail_or_die(items: Sequence[Any]) -> list[str]:
    if "die" in items:
        os._exit(7)
    if "fail" in items:
        raise ValueError("failed on purpose")
    os.write(1, b"a library that talks\n")
    return [f"{item} done" for item in items]


def when_ready(
    processes: Processes, items: Sequence[Any], is_other: Callable[[list[Any]], bool]
) -> list[Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answers = processes.call(items)
        if is_other(answers):
            return answers
    raise AssertionError("the process was never ready")


def test_work_goes_to_a_process_once_it_is_ready() -> None:
    processes = Processes(own_id, own_id)
    try:
        found = when_ready(processes, [1, 2], lambda ids: ids[0] != os.getpid())
    finally:
        processes.close()
    assert len(set(found)) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)  # it has ended


def test_errors_come_back_and_a_death_names_its_images() -> None:
    processes = Processes(fail_or_die, lambda items: [f"{item} here" for item in items])
    try:
        assert when_ready(processes, ["a"], lambda found: found == ["a done"])
        with pytest.raises(ValueError, match="failed on purpose"):
            processes.call(["fail"])
        assert processes.call(["b"]) == ["b done"]
        with pytest.raises(RunError, match=r"exit status 7\) at die or one of the 1 images after it"):
            processes.call(["die", "c"])
    finally:
        processes.close()


@pytest.mark.large
def test_processes_prepare_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(tmp_path / "set")
    bad = sorted((folder / "train" / "ill").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:200])
    found = config("folder", path=str(folder), on_bad_image="skip")
    threads = prepare(found, tmp_path / "threads")
    monkeypatch.setattr(decoding, "PROCESS_ROWS", 1)
    monkeypatch.setattr(files, "PROCESS_HEADERS", 1)
    monkeypatch.setattr(Processes, "_is_ready", _once_started(Processes._is_ready))
    processes = prepare(found, tmp_path / "processes")
    assert processes.fingerprint == threads.fingerprint
    assert np.array_equal(processes.split("train").images, threads.split("train").images)


def _once_started(is_ready: Callable[[Processes], bool]) -> Callable[[Processes], bool]:
    """Waits for the process instead of working in the thread."""

    def waiting(self: Processes) -> bool:
        until = time.monotonic() + 60
        while not is_ready(self):
            assert time.monotonic() < until
        return True

    return waiting

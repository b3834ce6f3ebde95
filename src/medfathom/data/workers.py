"""What decodes images to their place in the arrays: a thread, or a process of its own for each thread.

Decoders, zlib and hashlib release the interpreter lock, but around small images much of the work is Python,
and threads then wait for one another. Processes do not, but take half a second to start: until its process
is ready, a thread decodes itself.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock, local
from typing import IO, Any

import numpy as np

from medfathom.data.arrays import ArrayFile
from medfathom.data.images import Pixels, UnreadableImageError
from medfathom.data.sources.base import Problem, RawImage
from medfathom.errors import RunError

READY = b"ready\n"

_START = "import sys; sys.path[:] = {path!r}; from medfathom.data.workers import serve; serve()"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of an image once it is decoded: of the original, and of the pixels as prepared."""

    sha256: str
    n_bytes: int
    width: int
    height: int
    pixels_sha256: str
    bits_used: int
    """Bits that the original's values need; 0 for 8-bit images."""
    constant: int = 0
    """1 where all pixels as prepared are the same: a blank slice."""

    def fields(self) -> tuple[str, int, int, int, str, int, int]:
        """All fields, in order. `dataclasses.astuple` would copy each: as slow as hashing a small image."""
        first = self.sha256, self.n_bytes, self.width, self.height
        return *first, self.pixels_sha256, self.bits_used, self.constant


Outcome = Row | Problem


@dataclass(frozen=True, slots=True)
class Item:
    """An image to decode: its name, what its source fetched, and its place in an array."""

    name: str
    fetched: Any
    split: str
    position: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Filler:
    """Decodes images into the arrays of the splits. Goes into another process where `decode` does."""

    decode: Callable[[Any], RawImage]
    arrays: Mapping[str, ArrayFile]
    dtype: np.dtype[Any]

    def fill(self, items: Sequence[Item]) -> list[Outcome]:
        """What is known of each image, or why it cannot be used."""
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Outcome:
        try:
            raw = self.decode(item.fetched)
        except UnreadableImageError as error:
            return Problem(item.name, str(error))
        pixels = np.ascontiguousarray(raw.pixels, dtype=self.dtype)
        self.arrays[item.split].write(item.position, pixels)
        digest = hashlib.sha256(pixels.data).hexdigest()
        constant = int(_is_constant(pixels))
        return Row(raw.sha256, raw.n_bytes, raw.width, raw.height, digest, raw.bits_used, constant)


def _is_constant(pixels: Pixels) -> bool:
    """Whether all pixels are the same. The first line tells of nearly all images that they are not."""
    return bool((pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all())


Work = Callable[[Sequence[Any]], list[Any]]
"""An answer for each item."""


class Processes:
    """A process for each thread that calls `call`, started at its first call."""

    def __init__(self, portable: Work, here: Work) -> None:
        """`portable` is pickled; `here` does the same in a thread until the process is ready."""
        self._portable, self._here = portable, here
        self._mine = local()
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = Lock()

    def call(self, items: Sequence[Any]) -> list[Any]:
        """What the work answers, or raises. Raises RunError where the process died."""
        if not self._is_ready():
            return self._here(items)
        process = self._mine.process
        try:
            _send(process.stdin, items)
            answer: list[Any] | BaseException = pickle.load(process.stdout)  # noqa: S301  our own process
        except (OSError, EOFError):
            raise RunError(
                f"a process that reads images died (exit status {process.wait()}) at {items[0]} "
                f"or one of the {len(items) - 1} images after it; run again to go on"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End all processes: they end when nobody writes to them any more."""
        for process in self._all:
            with process:
                process.kill()

    def _is_ready(self) -> bool:
        if not hasattr(self._mine, "process"):
            self._mine.process, self._mine.ready = self._started(), False
        if not self._mine.ready and select.select([self._mine.process.stdout], [], [], 0)[0]:
            self._mine.ready = self._mine.process.stdout.readline() == READY
        return bool(self._mine.ready)

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _START.format(path=sys.path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        with self._lock:
            self._all.append(process)
        if process.stdin is not None:
            _send(process.stdin, self._portable)
        return process


def serve() -> None:
    """The other side: the work from standard input, then its items, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    work: Work = pickle.load(sys.stdin.buffer)  # noqa: S301  from our own parent
    answers.write(READY)
    answers.flush()
    while True:
        try:
            items = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        try:
            answer: list[Any] | BaseException = work(items)
        except Exception as error:  # noqa: BLE001  told in the parent
            answer = error
        _send(answers, answer)


def _send(file: IO[bytes], content: object) -> None:
    file.write(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
    file.flush()


class MemoryGate:
    """Limits what is decoded at once, so that memory does not grow with the number of threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until there is room; an amount larger than the capacity waits until it is alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + amount <= self._capacity)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()

"""Images worked on at once: fewer whenever memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from medfathom.errors import OutOfMemoryError
from medfathom.trial.memory import T, is_out_of_memory


class Portions:
    """How many images are worked on at once: as asked for, then half as many whenever memory runs out."""

    def __init__(self, at_once: int, what: str, *, least: int = 1) -> None:
        """`what` names the work's subject in the error; fewer than `least` images are never tried."""
        self.what = what
        self._least = min(least, at_once)
        self._at_once = at_once

    @property
    def at_once(self) -> int:
        """Images at once, at most (one more where a part would else have fewer than the least)."""
        return self._at_once

    def limit(self, at_once: int) -> None:
        """Take no more at once than this, or than the least."""
        self._at_once = max(self._least, min(self._at_once, at_once))

    def count(self, n_images: int, at_once: int) -> int:
        """In how many equal parts so many images are taken."""
        return max(1, min(-(-n_images // at_once), n_images // self._least))

    def run(self, attempt: Callable[[int], T], doing: str) -> T:
        """`attempt(at_once)`, again with half as many as long as memory runs out.

        Raises:
            OutOfMemoryError: the least at a time was too much.
        """
        while True:
            try:
                return attempt(self._at_once)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error, doing)

    def _halve(self, error: BaseException, doing: str) -> None:
        if self._at_once <= self._least:
            few = "one image" if self._least == 1 else f"{self._least} images, as batch norm needs,"
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise OutOfMemoryError(
                f"out of memory: {doing} {self.what} does not fit even {few} at a time; lower "
                f"unfreeze_depth or dataset.image_size ({reason})"
            ) from error
        self._at_once = max(self._least, (self._at_once + 1) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

"""What is told of each trial's end, so that pictures and notes can be kept."""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Keeps pictures and notes of trials. Called twice where the storage did not answer."""

    def before_end(self, number: int) -> None:
        """A trial is about to end, all its attributes written."""

    def after_end(self, number: int) -> None:
        """It has ended."""

    def close(self) -> None:
        """The run is over."""

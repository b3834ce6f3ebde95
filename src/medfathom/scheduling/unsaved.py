"""What all objects that Tune is given have in common here."""

from typing import Any


class Unsaved:
    """Tune pickles what it is given, to restore runs; here the ledger is the truth: nothing is kept."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

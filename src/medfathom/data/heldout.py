"""The only way to the test split.

Only `confirm` calls `open_test`, and the storage remembers each opening. `data check` compares the test
images with the others to find leaks; it trains nothing on them.
"""

from medfathom.data.prepared import PreparedData, Split, load_split


def open_test(prepared: PreparedData) -> Split:
    """The test split."""
    return load_split(prepared.folder, "test")

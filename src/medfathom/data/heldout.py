"""The only way to the test split.

`confirm` alone calls `open_test`, and storage remembers each opening. `data check` compares the test images
with the others before a study (that is how leaks are found); it trains nothing on them.
"""

from medfathom.data.prepared import PreparedData, Split, load_split


def open_test(prepared: PreparedData) -> Split:
    """The test split."""
    return load_split(prepared.folder, "test")

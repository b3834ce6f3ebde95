"""What a folder, a table or an array says about itself: a `[dataset]` table, and why."""

from pathlib import Path

TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".csv.gz", ".tsv.gz")
HDF5 = (".h5", ".hdf5")


def is_place(text: str) -> bool:
    """Whether this names data (a folder, a table, an array) and not a definition."""
    path = Path(text).expanduser()
    return path.is_dir() or (path.is_file() and path.name.lower().endswith((*TABLES, *HDF5, ".npz")))

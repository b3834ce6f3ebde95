"""Other data that a model is evaluated on."""

from pathlib import Path

import numpy as np


def images(n: int, *, seed: int = 0, overlap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 16, 16) whose brightness tells the class with errors, and the labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    level = 112 + 32 * labels + random.normal(0, 25 * overlap, n)
    noise = random.normal(0, 20, (n, 16, 16))
    return np.clip(level[:, None, None] + noise, 0, 255).astype(np.uint8), labels


def write(folder: Path, name: str = "other", **arrays: np.ndarray) -> str:
    """An npz file without splits, and a definition of it; returns the definition's file."""
    content = {f"train_{key}": value for key, value in arrays.items()}
    np.savez(folder / f"{name}.npz", **content)  # type: ignore[arg-type]
    file = folder / f"{name}.toml"
    file.write_text(f'[dataset]\nsource = "npz"\npath = "{name}.npz"\nclass_names = ["well", "ill"]\n')
    return str(file)

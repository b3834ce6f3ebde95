"""Write what an analysis found: analysis.json, results.csv, the figures and one HTML page."""

from __future__ import annotations

import json
import os
from pathlib import Path

from medfathom.analysis import figures
from medfathom.analysis.association import PREDICTORS
from medfathom.analysis.pipeline import Analysis


def write_report(analysis: Analysis, out: Path) -> list[Path]:
    """Write all files into a folder (made if absent), each beside its name first and then renamed.

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    columns = [c for c in analysis.rows.columns if not str(c).startswith("_")]
    texts = {
        "analysis.json": json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n",
        "results.csv": analysis.rows[columns].to_csv(index=False),
    }
    for name, modality in analysis.modalities.items():
        for predictor in PREDICTORS:
            texts[f"{_file_name(name)}_{predictor}.svg"] = figures.svg(figures.scatter(modality, predictor))
    return [_write(out / name, text) for name, text in texts.items()]


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _write(path: Path, text: str) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path

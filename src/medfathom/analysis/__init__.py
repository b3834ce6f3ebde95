"""Results -> verdicts: does depth or parameter count predict AUC?

Reading order: results, tables, rows (what is analysed) -> effects, modality (of architectures) -> predictors,
size (one slope and its verdict) -> questions (all others, one a file) -> pipeline (all of it) -> as_json,
report.
The public names below are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medfathom.analysis.pipeline import Analysis, analyze
    from medfathom.analysis.report.report import write_report
    from medfathom.analysis.results import Exclusion, from_trials
    from medfathom.analysis.tables import read_tables

__all__ = ["Analysis", "Exclusion", "analyze", "from_trials", "read_tables", "write_report"]

_HOME = {
    "Analysis": "pipeline",
    "analyze": "pipeline",
    "write_report": "report.report",
    "Exclusion": "results",
    "from_trials": "results",
    "read_tables": "tables",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"medfathom.analysis.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

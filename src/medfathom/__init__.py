"""medfathom: which pretrained network for my medical images, unfrozen how far, and does a bigger one help?

The commands in Python: `fit`, `run_study`, `trials`, `confirm_study`, `analyze_all`, `export_model`, `load`,
`evaluate`, `fill_checklist`; `analyze` and `write_report` for a table of your own. Everything is imported
when it is first used: `import medfathom` itself takes no time. In a notebook results show themselves as
tables, and progress is shown.

    import medfathom

    medfathom.fit("scans").predict("new_scans")

    medfathom.run_study("demo")
    medfathom.trials("demo").sort_values("auc")
    medfathom.confirm_study("demo", top=3)
    analysis, folder = medfathom.analyze_all(["demo"])
    medfathom.export_model("demo", Path("model"))
    medfathom.load("model").predict(["image.png"]).probabilities
"""

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from medfathom.analysis.pipeline import Analysis, analyze
    from medfathom.analysis.report.report import write_report
    from medfathom.answer import analyze_all
    from medfathom.confirm import Confirmation, confirm_study
    from medfathom.definitions.config import StudyConfig
    from medfathom.errors import InputError, MedfathomError, RunError
    from medfathom.evaluation.results import Evaluation
    from medfathom.export import Exported, export_model
    from medfathom.exported.model import Model, load
    from medfathom.exported.predictions import Predictions
    from medfathom.external import evaluate
    from medfathom.own_data import fit
    from medfathom.report import fill_checklist
    from medfathom.run import Outcome, run_study
    from medfathom.study.frame import trials
    from medfathom.study.watcher import Watcher
    from medfathom.terminal.notebook import progress

__all__ = [
    "Analysis",
    "Confirmation",
    "Evaluation",
    "Exported",
    "InputError",
    "MedfathomError",
    "Model",
    "Outcome",
    "Predictions",
    "RunError",
    "StudyConfig",
    "Watcher",
    "analyze",
    "analyze_all",
    "confirm_study",
    "evaluate",
    "export_model",
    "fill_checklist",
    "fit",
    "load",
    "progress",
    "run_study",
    "trials",
    "write_report",
]

_HOME = {
    "Analysis": "analysis.pipeline",
    "Confirmation": "confirm",
    "Evaluation": "evaluation.results",
    "Exported": "export",
    "InputError": "errors",
    "MedfathomError": "errors",
    "Model": "exported.model",
    "Outcome": "run",
    "Predictions": "exported.predictions",
    "RunError": "errors",
    "StudyConfig": "definitions.config",
    "Watcher": "study.watcher",
    "analyze": "analysis.pipeline",
    "analyze_all": "answer",
    "confirm_study": "confirm",
    "evaluate": "external",
    "export_model": "export",
    "fill_checklist": "report",
    "fit": "own_data",
    "load": "exported.model",
    "progress": "terminal.notebook",
    "run_study": "run",
    "trials": "study.frame",
    "write_report": "analysis.report.report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("medfathom")
    if name in _HOME:
        if "ipykernel" in sys.modules:  # the kernel of a notebook
            # tqdm, which others import, advises a package for its own bars: none is shown here.
            warnings.filterwarnings("ignore", message="IProgress not found")
            import_module("medfathom.terminal.notebook").watch_in_notebooks()
        return getattr(import_module(f"medfathom.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""medfathom: which pretrained network for my medical images, unfrozen how far, and does a bigger one help?

The commands in Python: `fit`, `run_study`, `confirm_study`, `analyze`, `export_model`, `load`,
`evaluate`. Everything is
imported when it is first used: `import medfathom` itself takes no time.

    import medfathom

    medfathom.fit("scans").predict("new_scans")

    medfathom.run_study("demo")
    medfathom.confirm_study("demo", top=3)
    medfathom.export_model("demo", Path("model"))
    medfathom.load("model").predict(["image.png"]).probabilities
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from medfathom.analysis.pipeline import Analysis, analyze
    from medfathom.confirm import Confirmation, confirm_study
    from medfathom.definitions.config import StudyConfig
    from medfathom.errors import InputError, MedfathomError, RunError
    from medfathom.evaluation.results import Evaluation
    from medfathom.export import Exported, export_model
    from medfathom.exported.model import Model, load
    from medfathom.exported.predictions import Predictions
    from medfathom.external import evaluate
    from medfathom.own_data import fit
    from medfathom.run import Outcome, run_study

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
    "analyze",
    "confirm_study",
    "evaluate",
    "export_model",
    "fit",
    "load",
    "run_study",
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
    "analyze": "analysis.pipeline",
    "confirm_study": "confirm",
    "evaluate": "external",
    "export_model": "export",
    "fit": "own_data",
    "load": "exported.model",
    "run_study": "run",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("medfathom")
    if name in _HOME:
        return getattr(import_module(f"medfathom.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

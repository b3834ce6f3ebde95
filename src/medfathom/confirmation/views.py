"""Test-time views of the best model: the mean over flips of each image, and what it is worth.

Whether the views are kept is decided on the validation split; the test split only tells what was gained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.confirmation.find import confirmed_folder
from medfathom.confirmation.gain import Gains, find_gains, gain_on, verdict
from medfathom.confirmation.summary import best_model
from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.data.sizes import at_size
from medfathom.definitions.joint import members
from medfathom.errors import InputError
from medfathom.files import home
from medfathom.models.folder import VIEWS, View, write_config
from medfathom.study.choice import rule_of

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.confirmation.results import ConfirmationSummary
    from medfathom.definitions.dataset import DatasetConfig

VIEWS_FOUND = "views"
"""Attribute of a search study: the test-time views of its best model."""


class TestViews(Gains):
    """The mean over views, against the same model without.

    Attributes:
        trial: of the model in the confirmation.
        views: of each image.
        requested: whether they are kept whatever they gain.
        kept: whether `export` writes them with the model.
    """

    __test__ = False  # pytest takes the name for a test's

    trial: int
    views: list[View]
    requested: bool
    kept: bool


def views_of(dataset: DatasetConfig) -> list[View]:
    """The views that leave a label true. Raises InputError where none is known but the image as it is."""
    if dataset.modality not in VIEWS:
        known = "; ".join(f"{name}: {', '.join(views)}" for name, views in VIEWS.items())
        raise InputError(
            f"--views: for modality {dataset.modality!r} no flip is known that keeps the label; there are "
            f"views for {known}"
        )
    return list(VIEWS[dataset.modality])


def views_folder(study: Study) -> Path:
    """Where the configuration and the predictions with views lie; no weights."""
    return confirmed_folder(study) / "views"


def find_views(
    study: Study, summary: ConfirmationSummary, dataset: DatasetConfig, *, requested: bool
) -> TestViews:
    """Predict validation and test split with views, by the model that `export` takes.

    Calibration and thresholds are fitted anew on validation. What is predicted is written to `views_folder`.
    """
    from medfathom.confirmation.worker import fit_on_validation, write_split  # noqa: PLC0415  imports torch
    from medfathom.exported.model import Model, load_unsealed  # noqa: PLC0415

    single = best_model(summary.strata[0], rule_of(study))
    own, plain = views_of(dataset), load_unsealed(single.folder)
    config = plain.config.model_copy(update={"views": own})
    model = Model(config, plain.module.weights.state_dict())
    data = prepare(members(at_size(dataset, config.image_size))[0], home() / "cache")
    val, test = data.split("val"), open_test(data)
    val_logits = model.logits(val.images)
    fitted = fit_on_validation(config, data, val, val_logits, config.calibration, config.threshold_rule)
    folder = views_folder(study)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, fitted)
    write_split(folder, "val", fitted, data, val, val_logits)
    write_split(folder, "test", fitted, data, test, model.logits(test.images))
    gains = find_gains(folder, single.folder)
    return TestViews(
        **dict(gains),
        trial=single.trial,
        views=own,
        requested=requested,
        kept=requested or gains.pays,
    )


def read_views(study: Study) -> TestViews | None:
    """What the latest `confirm --views` found; None: nobody asked."""
    found = study.user_attrs.get(VIEWS_FOUND)
    return None if found is None else TestViews.model_validate(found)


def kept_views(study: Study, trial: int) -> TestViews | None:
    """The views that a model of the confirmation is exported with; None: it has none."""
    found = read_views(study)
    return found if found is not None and found.kept and found.trial == trial else None


def views_lines(found: TestViews) -> list[str]:
    """What the views gain, and whether they are kept."""
    return [
        f"The best model with views of each image ({', '.join(found.views)}; the mean of their logits, "
        f"{len(found.views)} times the work): validation AUC {gain_on('validation', found)} "
        f"{verdict(found, kept=found.kept)}",
        f"Test AUC with views {gain_on('test', found)}",
    ]

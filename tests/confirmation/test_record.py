"""What a confirmed model leaves: written as attributes, read as named values."""

import json

import pytest
from pydantic import ValidationError

from medfathom.confirmation.record import ConfirmedRecord
from medfathom.trial.record import SplitMetrics


def test_attributes_are_read_as_they_were_written() -> None:
    test = SplitMetrics(auc=0.75, auc_ci_low=0.5, per_class={"ill": {"auc": 0.75}}, undefined=["none"])
    record = ConfirmedRecord(
        folder="trial-00003", n_test=40, test=test, temperature=1.5, pictures=["roc.png"]
    )
    attributes = json.loads(json.dumps(record.attributes(), allow_nan=False))
    assert attributes == {
        "folder": "trial-00003",
        "n_test": 40,
        "temperature": 1.5,
        "calibration": "temperature",
        "pictures": ["roc.png"],
        "test_auc": 0.75,
        "test_auc_ci_low": 0.5,
        "test_per_class": {"ill": {"auc": 0.75}},
        "test_undefined": ["none"],
    }
    assert ConfirmedRecord.of({**attributes, "auc": 0.9, "stratum": "all"}) == record


def test_a_trial_that_was_not_judged_is_none() -> None:
    with pytest.raises(ValidationError, match="n_test"):
        ConfirmedRecord.of({"folder": "trial-00003", "auc": 0.9})

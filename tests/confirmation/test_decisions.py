"""Where confirmed models decide: the definition's key, what the card says was reached, the tables."""

import numpy as np
import pytest

from made_confirmations import made_model
from made_models import CONFIG
from medfathom.confirmation.decisions import decision_tables, decision_words, decisions
from medfathom.confirmation.record import ConfirmedRecord
from medfathom.definitions.load import load_definition
from medfathom.errors import DefinitionError
from medfathom.metrics.calibration import thresholds_of
from medfathom.trial.record import SplitMetrics


def test_the_key_makes_no_other_study() -> None:
    usual = load_definition("demo")
    wanted = load_definition("demo", ["decision.threshold={sensitivity=0.95}"])
    assert usual.decision.rule == "youden"
    assert wanted.decision.rule == {"sensitivity": 0.95}
    assert wanted.definition_hash == usual.definition_hash


@pytest.mark.parametrize("given", ["{}", "{sensitivity=0.9, specificity=0.9}", "{sensitivity=1.5}", "'best'"])
def test_a_bad_threshold_is_refused(given: str) -> None:
    with pytest.raises(DefinitionError, match=r"decision\.threshold"):
        load_definition("demo", [f"decision.threshold={given}"])


def test_thresholds_of_validation_follow_the_rule() -> None:
    labels, values = np.array([0, 0, 1, 1, 1]), np.array([[0.1], [0.4], [0.3], [0.6], [0.8]])
    (youden,) = thresholds_of("binary", labels, values)
    (sensitive,) = thresholds_of("binary", labels, values, {"sensitivity": 1.0})
    assert (youden, sensitive) == pytest.approx((0.5, 0.2))


def test_the_card_says_what_was_reached_on_both_splits() -> None:
    val = SplitMetrics(sensitivity=0.96, sensitivity_ci_low=0.91)
    test = SplitMetrics(auc=0.9, sensitivity=0.88, sensitivity_ci_low=0.8)
    config = CONFIG.model_copy(update={"threshold_rule": {"sensitivity": 0.95}})
    said = decision_words(config, made_model(test=test, validation=val))
    assert "Asked for: a sensitivity of 0.95. Reached on validation: 0.960 (lower end" in said
    assert "interval 0.910); on test: 0.880 (lower end 0.800)." in said
    assert decision_words(CONFIG, made_model(test=test, validation=val)) == ""


def test_what_is_kept_of_validation_comes_back() -> None:
    kept = ConfirmedRecord(
        folder="f", n_test=3, test=SplitMetrics(auc=0.8), validation=SplitMetrics(sensitivity=0.9)
    )
    assert ConfirmedRecord.of(kept.attributes()) == kept
    assert ConfirmedRecord.of({"folder": "f", "n_test": 3}).validation is None


def test_tables_are_about_classes_with_a_threshold() -> None:
    flags = np.array([[True, False], [True, False], [False, False], [False, False]])
    values = np.array([[0.9, 0.1], [0.4, 0.1], [0.2, 0.1], [0.1, 0.1]])
    (only,) = decisions(flags, values, ["ill", "rare"], [0.5, 0.5])  # nobody has the second
    assert only.prevalences[0] == 0.5
    assert (only.ppv[0], only.npv[0]) == pytest.approx((1.0, 2 / 3))
    table = "\n".join(decision_tables([only]))
    assert "| by the model | " in table and "Net benefit per image of treating ill" in table
    assert "Net benefit per volume of treating ill" in decision_tables([only], "volume")[0]
    assert decisions(flags, values, ["ill", "rare"], []) == []

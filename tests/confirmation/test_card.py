"""The card's table and what it says of its intervals."""

from medfathom.confirmation.card import _groups, _metrics


def test_an_interval_that_is_undefined_is_left_empty() -> None:
    values = {"auc": 0.5, "auc_ci_low": 0.25, "auc_ci_high": 0.75}
    classes = {"rare": {"auc": 1.0}, "common": values, "none": {}}
    text = _metrics({"test_auc": 0.75, "test_per_class": classes})
    assert "| AUC |  | 0.7500 |  |" in text
    assert "| AUC of rare | | 1.0000 |  |" in text
    assert "| AUC of common | | 0.5000 | 0.2500 to 0.7500 |" in text
    assert "none" not in text


def test_the_card_says_what_intervals_count() -> None:
    grouped = {"test_auc_interval": "bootstrap of 12 groups, 1000 draws"}
    plain = {"test_auc_interval": "DeLong; Newcombe by numbers of images where that has no width"}
    assert _groups(grouped) == "Intervals count patients (or slides), not images."
    assert "the intervals are too narrow" in _groups(plain)
    assert "AUC intervals: bootstrap of 12 groups, 1000 draws. Others: Wilson's, with" in _metrics(grouped)
    assert _metrics(plain).endswith("has no width. Others: Wilson's.")

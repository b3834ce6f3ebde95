"""A study's trials as a table."""

from made_confirmations import confirmed, searched
from medfathom import trials
from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.open import open_study


def test_dimensions_that_are_drawn_together_have_a_column_each(workdir: object) -> None:
    architecture, other = "tf_efficientnet_lite0", "tf_efficientnet_lite1"
    config = load_definition("demo", [f"space.architecture.choices=[{architecture!r}, {other!r}]"])
    space = config.space.model_copy(update={"exclude": [{"architecture": other, "init": "random"}]})
    config = config.model_copy(update={"space": type(space).model_validate(space.model_dump())})
    assert config.space.joint == ["architecture", "init"]
    with open_study(config, default_url(), "data") as driver:
        given = [driver.assign() for _ in range(6)]
    found = trials("demo")
    assert "architecture+init" not in found.columns
    rows = found[["architecture", "init", "unfreeze_depth", "learning_rate"]].to_dict("records")
    assert rows == [
        {name: getattr(a.params, name) for name in row} for a, row in zip(given, rows, strict=True) if a
    ]


def test_a_confirmations_trials_can_be_read(workdir: object) -> None:
    config = load_definition("demo")
    confirmed(config, searched(config), 1)
    found = trials("demo (confirmed)")
    assert {"architecture", "init", "learning_rate", "auc"} <= {*found.columns}


def test_a_withdrawn_trial_has_no_row(workdir: object) -> None:
    with open_study(load_definition("demo"), default_url(), "data") as driver:
        for _ in range(2):
            assert driver.assign() is not None
        driver.report(1, 1, 0.6)
        driver.stop_in_hand({}, "the run ended")
    assert trials("demo")["state"].to_dict() == {1: "PRUNED"}

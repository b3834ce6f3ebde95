"""What a worker tells of a confirmation that cannot begin."""

from dataclasses import replace
from pathlib import Path

from medfathom.confirmation.worker import confirmed_results
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.scheduling.messages import Failure, Order, RunSettings
from medfathom.study.assignment import Assignment


def test_a_confirmation_that_fails_before_its_first_epoch_says_what_it_is(workdir: Path) -> None:
    """As a search trial does: its weights are gone, and yet its size is known."""
    config = load_definition("demo", [])
    data = prepare(config.dataset, workdir / "cache")
    settings = replace(RunSettings(config, workdir, 1, "cpu", workdir, ""), fingerprint=data.fingerprint)
    params = TrialParams(architecture="resnet18", init="file:absent.pt", unfreeze_depth=1)
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    (failed,) = confirmed_results(
        settings, order, study="demo", folder=workdir / "confirmed", pictures=frozenset()
    )
    assert isinstance(failed, Failure)
    assert "absent.pt" in failed.reason
    assert failed.identity is not None
    assert (failed.identity.architecture, failed.identity.seed) == ("resnet18", 7)
    assert (failed.identity.n_params or 0) > 10**7
    assert not (workdir / "confirmed").exists()

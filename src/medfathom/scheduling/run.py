"""A run: trials until the budget is spent or something halts it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from ray import tune
from typing_extensions import override

from medfathom.definitions.config import StudyConfig
from medfathom.errors import MedfathomError, RunError
from medfathom.scheduling.cluster import Cluster, Slots, cluster, followed, slots_for
from medfathom.scheduling.early_stopping import StratifiedScheduler
from medfathom.scheduling.halt import Halt, signals
from medfathom.scheduling.messages import RunSettings, Work
from medfathom.scheduling.nodes import ANSWER_S, Versions
from medfathom.scheduling.precision import precision_of_run
from medfathom.scheduling.searcher import AskTell
from medfathom.scheduling.sources import offered
from medfathom.scheduling.stall import Recoveries, Stall, Unmade
from medfathom.scheduling.trainable import TrialActor
from medfathom.study.driver import Driver
from medfathom.study.sources import folders_of, sources_of
from medfathom.study.watcher import Watcher
from medfathom.text import command

WORKER_RETRIES = 2
"""How often a trial whose worker died goes on in another one."""
CLUSTER_RETRIES = 4
"""The same on a cluster of others: until Ray notices that a node is gone, tries are lost (`Recoveries`)."""
FIT_RESTARTS = 5
"""How often a fit that Ray ended early is begun again within one run."""


def run_trials(
    config: StudyConfig,
    driver: Driver,
    watcher: Watcher,
    storage: Path,
    address: str | None = None,
    work: Work | None = None,
) -> str:
    """Run trials until the budget is spent or something halts the run.

    Args:
        config: the definition.
        driver: the study's trials.
        watcher: is told what happens.
        storage: the folder of prepared data, features and checkpoints, on every node.
        address: of a Ray cluster; one of our own when none is given.
        work: see `RunSettings`.

    Returns:
        Why the run halted; empty when the budget is spent.

    Raises:
        RunError: the storage or the cluster failed, or a node of it has not the same medfathom.
    """
    with cluster(address) as at_hand:
        slots = slots_for(config, own=at_hand.own)
        watcher.begin(config, driver, slots.concurrent)
        versions = None if at_hand.own else Versions()
        if versions is not None:
            versions.check(slots.able, ANSWER_S)
        if not slots.able:
            watcher.note("no node of the cluster has room for a trial yet; waiting for nodes to join it")
        sources = folders_of(sources_of(driver.study))
        settings = RunSettings(
            config,
            storage.absolute(),
            slots.cpus_per_trial,
            slots.device,
            Path.cwd(),
            driver.study.user_attrs["dataset_fingerprint"],
            precision_of_run(driver, slots) if work is None else driver.settled_precision(),
            sources,
            {} if at_hand.own else offered(storage, {f for own in sources.values() for f in own.values()}),
            work,
        )
        halt = Halt(config, driver)
        with signals(halt):
            Run(driver, watcher, settings, slots, halt, at_hand, versions).to_its_end()
    if isinstance(halt.error, MedfathomError):
        raise halt.error
    if halt.error is not None:
        raise RunError(f"the run failed: {halt.error!r}") from halt.error
    return halt.reason


class NoReporter(tune.ProgressReporter):  # type: ignore[misc]
    """Tells nothing: in a notebook Tune's own would clear what the watcher shows."""

    @override
    def should_report(self, trials: object, done: bool = False) -> bool:
        return False

    @override
    def report(self, trials: object, done: bool, *sys_info: str) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """One run of a study: what its fits share."""

    driver: Driver
    watcher: Watcher
    settings: RunSettings
    slots: Slots
    halt: Halt
    cluster: Cluster
    versions: Versions | None
    """Of the nodes; None: a Ray of our own."""

    def to_its_end(self) -> None:
        """Fit until the budget is spent; where Ray ends a fit early, take up its trials in another one.

        A Ray of our own is started anew for it.

        Raises:
            RunError: Ray ended one fit after another.
        """
        failure = ""
        for attempt in range(FIT_RESTARTS + 1):
            if attempt:
                self.watcher.note(f"Ray ended its run early ({failure or 'no reason given'}); continuing")
                self.cluster.begin_anew()
            try:
                self._fit(self.cluster.folder / f"fit-{attempt}")
            except KeyboardInterrupt:  # from a handler of ours or, where the caller has one, of theirs
                self.halt.reason = self.halt.reason or "interrupted"
                return
            except MedfathomError:
                raise
            except Exception as error:  # noqa: BLE001  whatever Ray raises: the driver knows where to go on
                failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if self.halt.reason or self.driver.done():
                return
            self.driver.release()
        raise RunError(
            f"Ray ended its run {FIT_RESTARTS + 1} times ({failure}); `{command('run')}` continues"
        )

    def _fit(self, folder: Path) -> None:
        past = [t for t in self.driver.trials() if t.state.is_finished()]
        config = self.settings.config
        slots = followed(config, self.slots, self.versions.check if self.versions else None)
        searcher = AskTell(self.driver, self.watcher, self.halt, slots, self.settings)
        retries = WORKER_RETRIES if self.cluster.own else CLUSTER_RETRIES
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(TrialActor, settings=self.settings), self.slots.request),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StratifiedScheduler(config, searcher.lost, past),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="fit",
                storage_path=str(folder),
                stop=self.halt,
                callbacks=[Stall(), Unmade(), Recoveries(self.watcher.note, pauses=not self.cluster.own)],
                verbose=0,
                progress_reporter=NoReporter(),
                failure_config=tune.FailureConfig(max_failures=retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuner.fit()
        if self.halt.final:
            self.halt.or_halt(searcher.end_in_hand, otherwise=None)

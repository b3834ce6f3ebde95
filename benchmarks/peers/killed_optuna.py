"""Optuna under kills, as its documentation has it: `RDBStorage` with heartbeats, `MaxTrialsCallback`.

A trial that a dead process left is retried by `RetryHeartbeatStaleTrialCallback`, with the values reported so
far. Started again, the same command goes on. Prints `trial …` for each epoch, and a JSON line at the end.
"""

import json
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import Trial, TrialState

EPOCHS, EPOCH_S = 4, 0.4


def objective(trial: Trial) -> float:
    rate = trial.suggest_float("rate", 1e-4, 1e-2, log=True)
    reported = trial.study.trials[trial.number].intermediate_values
    for epoch in range(max(reported, default=0) + 1, EPOCHS + 1):
        threading.Event().wait(EPOCH_S)
        trial.report(rate, epoch)
        print(f"trial {trial.number} epoch {epoch}", flush=True)
    return rate


def main() -> None:
    folder, asked = Path(sys.argv[1]), int(sys.argv[2])
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = RDBStorage(
        f"sqlite:///{folder / 'optuna.db'}",
        heartbeat_interval=1,
        grace_period=3,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True),
    )
    study = optuna.create_study(storage=storage, study_name="killed", load_if_exists=True)
    if len(study.get_trials(states=(TrialState.COMPLETE,))) < asked:
        study.optimize(objective, n_jobs=2, callbacks=[MaxTrialsCallback(asked)])
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    states = Counter(trial.state.name for trial in study.trials)
    print(
        json.dumps(
            {
                "finished": len(complete),
                "twice": len(complete) - len({t.params["rate"] for t in complete}),
                "unfinished": states["RUNNING"] + states["WAITING"],
                "torn": sum(list(t.intermediate_values) != list(range(1, EPOCHS + 1)) for t in complete),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()

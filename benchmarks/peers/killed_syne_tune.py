"""Syne Tune under kills, as its FAQ has it: the tuner is saved while it runs, `Tuner.load` goes on with it.

Started again, the same command goes on. Prints `trial …` for each epoch, and a JSON line at the end. With
`--rate` it is a trial's script, with a checkpoint for each epoch.
"""

import argparse
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import loguniform
from syne_tune.constants import ST_CHECKPOINT_DIR
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.results_callback import StoreResultsCallback
from syne_tune.tuner_callback import TunerCallback

EPOCHS, EPOCH_S = 4, 0.4


class News(TunerCallback):  # type: ignore[misc]
    def on_trial_result(self, trial: Any, status: str, result: dict[str, Any], decision: str) -> None:
        print(f"trial {trial.trial_id} epoch {result['epoch']}", flush=True)


def train(rate: float, folder: Path) -> None:
    report, checkpoint = Reporter(), folder / "epoch"
    done = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(done + 1, EPOCHS + 1):
        threading.Event().wait(EPOCH_S)
        checkpoint.write_text(str(epoch))
        report(epoch=epoch, auc=rate)


def tuner(place: Path, asked: int) -> Tuner:
    if (place / "tuner.dill").is_file():
        return Tuner.load(str(place))
    return Tuner(
        trial_backend=LocalBackend(__file__, num_gpus_per_trial=0),
        scheduler=RandomSearch({"rate": loguniform(1e-4, 1e-2)}, metrics=["auc"], random_seed=1),
        stop_criterion=StoppingCriterion(max_num_trials_completed=asked - 1),  # it stops above this
        n_workers=2,
        sleep_time=0.2,
        results_update_interval=1.0,
        max_failures=100,
        tuner_name="killed",
        suffix_tuner_name=False,
        wait_trial_completion_when_stopping=True,
        callbacks=[News(), StoreResultsCallback()],
    )


def main() -> None:
    folder, asked = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["SYNETUNE_FOLDER"] = str(folder)
    logging.disable(logging.WARNING)
    found = tuner(folder / "killed", asked)
    found.run()
    told: dict[int, list[int]] = {}
    rates: dict[int, float] = {}
    for row in next(c for c in found.callbacks if isinstance(c, StoreResultsCallback)).results:
        told.setdefault(row["trial_id"], []).append(row["epoch"])
        rates[row["trial_id"]] = row["config_rate"]
    whole = [trial for trial, epochs in told.items() if EPOCHS in epochs]
    states = found.tuning_status.last_trial_status_seen.values()
    print(
        json.dumps(
            {
                "finished": len(whole),
                "twice": len(whole) - len({rates[trial] for trial in whole}),
                "unfinished": sum(state == "InProgress" for state in states),
                "torn": sum(told[trial] != list(range(1, EPOCHS + 1)) for trial in whole),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    if "--rate" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--rate", type=float)
        parser.add_argument(f"--{ST_CHECKPOINT_DIR}", dest="folder", type=Path)
        options = parser.parse_args()
        train(options.rate, options.folder)
    else:
        main()

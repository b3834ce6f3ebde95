"""Ray Tune under kills, as its guide to fault tolerance has it: `FailureConfig`, `Tuner.restore`.

A checkpoint for each epoch. Started again, the same command goes on. Prints `trial …` for each epoch, and a
JSON line at the end.
"""

import json
import logging
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray
from ray import tune

EPOCHS, EPOCH_S = 4, 0.4


class News(tune.Callback):  # type: ignore[misc]
    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:
        print(f"trial {trial.trial_id} epoch {result['epoch']}", flush=True)


def train(config: dict[str, float]) -> None:
    done = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            done = int((Path(folder) / "epoch").read_text())
    for epoch in range(done + 1, EPOCHS + 1):
        threading.Event().wait(EPOCH_S)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            report = {"auc": config["rate"], "epoch": epoch, "rate": config["rate"]}
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    folder, asked = Path(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="rt-") as own:  # short: paths of sockets are limited
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, _temp_dir=own)
        results = tuner(folder, asked).fit()
        ray.shutdown()
    told = [frame["epoch"].tolist() if len(frame := r.metrics_dataframe) else [] for r in results]
    whole = [r for r, epochs in zip(results, told, strict=True) if r.error is None and EPOCHS in epochs]
    print(
        json.dumps(
            {
                "finished": len(whole),
                "twice": len(whole) - len({r.config["rate"] for r in whole}),
                "unfinished": len(results) - len(whole),
                "torn": sum(EPOCHS in epochs and epochs != list(range(1, EPOCHS + 1)) for epochs in told),
            }
        ),
        flush=True,
    )


def tuner(folder: Path, asked: int) -> tune.Tuner:
    trainable = tune.with_resources(train, {"cpu": 1})
    if tune.Tuner.can_restore(str(folder / "killed")):
        return tune.Tuner.restore(str(folder / "killed"), trainable=trainable, resume_errored=True)
    return tune.Tuner(
        trainable,
        param_space={"rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(num_samples=asked),
        run_config=tune.RunConfig(
            name="killed",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=3),
            callbacks=[News()],
            verbose=0,
        ),
    )


if __name__ == "__main__":
    main()

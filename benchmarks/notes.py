"""What notes cost a trial: the recorder's time for each of many trials of one study.

python benchmarks/notes.py [--trials 200] [--epochs 20]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()

    from medfathom.dashboard.notes import NotesAndPictures
    from medfathom.definitions.load import load_definition
    from medfathom.study.connection import default_url
    from medfathom.study.open import open_study

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDFATHOM_STORAGE"] = str(Path(folder) / "storage")
        overrides = [f"budget.trials={options.trials}", f"budget.epochs={options.epochs}", "sampler=random"]
        with open_study(load_definition("demo", overrides), default_url(), "data") as driver:
            recorder = NotesAndPictures(driver.study, print)
            seconds: dict[str, list[float]] = {"without": [], "with": []}
            for assignment in iter(driver.assign, None):
                number = assignment.number
                which = "with" if number % 2 else "without"
                driver.recorder = recorder if number % 2 else None
                for epoch in range(1, options.epochs + 1):
                    driver.report(number, epoch, 0.5 + epoch / 100)
                losses = [1 / epoch for epoch in range(1, options.epochs + 1)]
                facts = {"losses": {"train": losses, "val": losses}, "auc": 0.7, "n_params": 3_400_000}
                started = time.perf_counter()
                driver.complete(number, 0.7, facts)
                seconds[which].append(time.perf_counter() - started)
    for which, values in seconds.items():
        first, last = values[: len(values) // 4], values[-len(values) // 4 :]
        print(
            f"{which:8} notes: median {1000 * statistics.median(values):.1f} ms a trial "
            f"(first quarter {1000 * statistics.median(first):.1f}, last quarter "
            f"{1000 * statistics.median(last):.1f}, worst {1000 * max(values):.0f})"
        )


if __name__ == "__main__":
    main()

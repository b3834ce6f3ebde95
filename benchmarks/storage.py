"""What a storage of 20,000 trials costs: `show`, taking the study up again, the dashboard's page, memory.

    uv run benchmarks/storage.py [--trials 20000] [--out benchmarks/results/storage.md]

The trials are written as runs write them: five intermediate values and forty user attributes each, one in
three pruned. Each measurement has a process of its own: wall time with its imports and, as others may work on
the machine, CPU time.
"""

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

GOALS = {"show": (2.0, None), "resume": (5.0, 500.0), "dashboard": (5.0, None)}
EPOCHS = 5
DISTINCT = 100
CHILDREN = ("trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes")
ATTRIBUTES = {f"attribute_{i}": i / 7 for i in range(30)}

MEASURED = """
import resource, sys, time
began = time.perf_counter()
{code}
seconds = time.perf_counter() - began
print("measured", seconds, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
CODE = {
    "show": """
sys.argv = ["medfathom", "show", "demo"]
from medfathom.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
""",
    # Until the next trial could begin: the study adopted, sampler asked, early stopping taught.
    "resume": """
from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.scheduling.early_stopping import StratifiedScheduler
config = load_definition("demo", ["budget.trials={trials}"])
with open_study(config, default_url(), "data") as driver:
    past = [t for t in driver.trials() if t.state.is_finished()]
    StratifiedScheduler(config, {{}}, past)
    assert len(driver.adopt()) == 1
    assert driver.assign() is not None
""",
    # What the study's page asks for when it is opened; drawing it is the browser's.
    "dashboard": """
import io
from medfathom.dashboard.server import make_dashboard
from medfathom.study.connection import default_url
with make_dashboard(default_url(), 0, writable=False) as server:
    asked = {{"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "after=0"}}
    asked |= {{"HTTP_HOST": "127.0.0.1", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"}}
    asked |= {{"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}}
    assert sum(map(len, server.get_app()(asked, lambda *_: None))) > 10**6
""",
}


def fill(n_trials: int) -> None:
    """A study of so many trials, one of them left RUNNING, in the working folder's storage.

    The first `DISTINCT` are written through Optuna, the others are copies of their rows.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    from medfathom.definitions.load import load_definition
    from medfathom.definitions.space import suggest
    from medfathom.study.connection import default_url
    from medfathom.study.open import open_study

    config = load_definition("demo", [f"budget.trials={n_trials + 2}"])
    with open_study(config, default_url(), "data") as driver:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        start = datetime(2026, 1, 1)
        for number in range(DISTINCT):
            params = suggest(study.ask(), config.space)
            asked = study.trials[-1]
            epochs = 2 if number % 3 == 0 else EPOCHS
            steps = {e: 0.5 + (number * 37 % 400 + 10 * e) / 1000 for e in range(1, epochs + 1)}
            trial = create_trial(
                state=TrialState.COMPLETE if epochs == EPOCHS else TrialState.PRUNED,
                value=steps[epochs],
                params=asked.params,
                distributions=asked.distributions,
                intermediate_values=steps,
                user_attrs={
                    **ATTRIBUTES,
                    "architecture": params.architecture,
                    "init": params.init,
                    "unfreeze_depth": params.unfreeze_depth,
                    "stratum": f"architecture={params.architecture}",
                    "auc": steps[epochs],
                    "train_seconds": 60.0,
                    "epochs": epochs,
                },
            )
            trial.datetime_start = start + timedelta(minutes=number)
            trial.datetime_complete = start + timedelta(minutes=number + 1)
            driver.study.add_trial(trial)
    multiply(Path("storage/medfathom.db"), n_trials // DISTINCT)
    with open_study(config, default_url(), "data") as driver:
        assert driver.counts().finished == n_trials
        driver.assign()  # stays RUNNING: what a killed run leaves


def multiply(database: Path, times: int) -> None:
    """Copy all trials, with new ids and numbers, until there are so many times as many."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for table in ("trials", *CHILDREN):
            columns = [row[1] for row in connection.execute(f"pragma table_info({table})") if not row[5]]
            keys = ["trial_id", *columns] if table == "trials" else columns
            moved = [f"{c} + ?1" if c in ("trial_id", "number") else c for c in keys]
            into = f"insert into {table} ({', '.join(keys)})"
            what = f"select {', '.join(moved)} from {table}"  # noqa: S608  names of our own
            first = f"where trial_id in (select trial_id from trials where number < {DISTINCT})"  # noqa: S608
            for copy in range(1, times):
                connection.execute(f"{into} {what} {first}", (copy * DISTINCT,))


def measure(code: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and peak MiB of a process that runs the code."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(code=code)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    _, seconds, cpu, mebibytes = done.stdout.splitlines()[-1].split()
    return float(seconds), float(cpu), float(mebibytes)


def main() -> None:
    """Fill, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, here = Path(name), Path.cwd()
        os.chdir(folder)
        os.environ.pop("MEDFATHOM_STORAGE", None)
        fill(options.trials)
        os.chdir(here)
        size = (folder / "storage" / "medfathom.db").stat().st_size / 2**20
        lines = [
            f"# A storage of {options.trials:,} trials",
            "",
            f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}), Python "
            f"{platform.python_version()}, SQLite, {size:.0f} MiB; load {os.getloadavg()[0]:.1f}. "
            "`uv run benchmarks/storage.py`",
            "",
            "| what | seconds | of CPU | goal | peak memory | goal |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for what, (goal, memory_goal) in GOALS.items():
            code = (
                CODE[what].replace("{trials}", str(options.trials + 2)).replace("{{", "{").replace("}}", "}")
            )
            seconds, cpu, mebibytes = measure(code, folder)
            memory = f"{memory_goal:.0f} MiB" if memory_goal else "500 MiB"
            lines.append(
                f"| {what} | {seconds:.1f} | {cpu:.1f} | {goal:.0f} | {mebibytes:.0f} MiB | {memory} |"
            )
        text = "\n".join(lines) + "\n"
        print(text)
        if options.out:
            options.out.write_text(text)


if __name__ == "__main__":
    main()

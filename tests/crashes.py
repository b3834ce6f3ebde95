"""Runs a study again and again, each time killed at another of its commits, then goes on with it to the end.

    python crashes.py URL FIRST STEP

A process of its own, without threads, so that it can fork: each child opens the storage anew, works on the
study as a run does (without Ray), and dies, as by SIGKILL, right before or right after one of its commits.
Prints a JSON line for each crash: how far the child came, and the trials in the end.
"""

import json
import os
import sys
import time
from itertools import count

import sqlalchemy as sa

from medfathom.definitions.load import load_definition
from medfathom.study import sharing
from medfathom.study.open import open_study
from medfathom.study.read import read_study as load

sharing.LEASE_S = 0.5
TRIALS, EPOCHS, DIED = 4, 2, 99


def work(url: str, name: str) -> None:
    """Run the study to its budget: adopted trials first, every third trial pruned after an epoch."""
    config = load_definition(
        "demo", [f"name={name}", f"budget.trials={TRIALS}", "budget.epochs=2", "goal=compare"]
    )
    with open_study(config, url, "data") as driver:
        while not driver.done():
            adopted = driver.adopt()
            assignment = adopted[0] if adopted else driver.assign()
            if assignment is None:
                time.sleep(0.1)  # until the dead child's lease has run out
                continue
            number, auc = assignment.number, (assignment.seed % 1000) / 1000
            last = 1 if number % 3 == 2 else EPOCHS
            for epoch in range(1, last + 1):
                if epoch not in assignment.reported:
                    driver.report(number, epoch, auc + epoch / 1000)
            if last == EPOCHS:
                driver.complete(number, auc + EPOCHS / 1000, {"epochs": EPOCHS})
            else:
                driver.prune(number, {"epochs": 1}, "stopped by asha at epoch 1")


def killed_at(commit: int, *, before: bool) -> None:
    """Die at the so-manieth commit of any connection of this process."""
    seen = count(1)

    @sa.event.listens_for(sa.Engine, "commit")
    def _commit(connection: sa.Connection) -> None:
        if next(seen) != commit:
            return
        if not before:
            connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
        os._exit(DIED)


def main() -> None:
    """Crash after crash until a child lives to its end."""
    url, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for attempt in count():
        commit, name = first + attempt * step, f"crash-{first}-{attempt}"
        child = os.fork()
        if child == 0:
            killed_at(commit, before=bool(attempt % 2))
            work(url, name)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        work(url, name)
        trials = [
            {
                "number": t.number,
                "state": t.state.name,
                "params": sorted((k, str(v)) for k, v in t.params.items()),
                "steps": list(t.intermediate_values),
                "attributes": t.user_attrs,
            }
            for t in load(url, name).get_trials()
        ]
        print(json.dumps({"commit": commit, "died": died, "trials": trials}), flush=True)  # noqa: T201
        if died == 0:
            return


if __name__ == "__main__":
    main()

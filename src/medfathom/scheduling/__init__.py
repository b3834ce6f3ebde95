"""The only package that imports Ray: searcher, schedulers, trainable, cluster.

The Optuna study is the only truth, and `study.driver.Driver` is the only way to it: each start is a fresh
Tune run, and Tune's own checkpoints and restore are not used. Reading order: run, searcher, trainable,
messages, worker, early_stopping, halt, cluster.
"""

import medfathom.scheduling.environment  # noqa: F401  before Ray is imported
from medfathom.scheduling.cluster import cluster
from medfathom.scheduling.messages import RunSettings, Work
from medfathom.scheduling.run import run_trials

__all__ = ["RunSettings", "Work", "cluster", "run_trials"]

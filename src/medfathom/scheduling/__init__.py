"""The only package that imports Ray: searcher, schedulers, trainable, cluster.

The Optuna study, through the ledger, is the only truth: each start is a fresh Tune run, Tune's own
checkpoints and restore are not used. Reading order: run, searcher, actor, rules, halt, cluster.
"""

import medfathom.scheduling.environment  # noqa: F401  before Ray is imported
from medfathom.scheduling.actor import Plan, Work
from medfathom.scheduling.cluster import cluster
from medfathom.scheduling.run import run_trials

__all__ = ["Plan", "Work", "cluster", "run_trials"]

"""What Ray, and torch in its workers, read from the environment. Imported before Ray, by every module."""

import logging
import os

from medfathom.machine import check_ray

check_ray()

# No usage statistics, no packing of the working folder under `uv run`, no result files, failures without a
# metric. No lines of Ray's own in standard output, where `--json` has its lines: what happens the watcher
# tells. No memory monitor: its OutOfMemoryError ends a whole fit. Any number of trials that wait for a worker
# (`StratifiedScheduler.choose_trial_to_run`; the searcher gives no more than there is room for, and an
# autoscaler sees them all). For torch in the workers: idle OpenMP threads give their core away soon
# (benchmarks/results/training.md).
for _name, _value in {
    "GOMP_SPINCOUNT": "10000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
}.items():
    os.environ.setdefault(_name, _value)

# In a notebook Ray would advise a package for widgets that it does not show here.
logging.getLogger("ray.widgets").setLevel(logging.WARNING)


class Unsaved:
    """Base of what Tune is given. Tune pickles it to restore runs; here the storage is the truth."""

    def __getstate__(self) -> dict[str, object]:
        return {}

"""Key of a fact, as checklists name it -> how it is taken from a study's record."""

from __future__ import annotations

from collections.abc import Callable

from medfathom.reporting import data_facts, model_facts, result_facts
from medfathom.reporting.record import Answer, StudyRecord

FACTS: dict[str, Callable[[StudyRecord], Answer]] = {
    function.__name__: function
    for function in (
        data_facts.data_source,
        data_facts.fingerprint,
        data_facts.subsets,
        data_facts.flow,
        data_facts.missing,
        data_facts.preprocessing,
        data_facts.image_form,
        data_facts.inputs,
        data_facts.reference,
        data_facts.test_labels,
        data_facts.partitions,
        data_facts.partition_sizes,
        data_facts.class_counts,
        data_facts.disjoint,
        data_facts.leakage,
        data_facts.bad_images,
        model_facts.technology,
        model_facts.question,
        model_facts.goal,
        model_facts.model,
        model_facts.outputs,
        model_facts.threshold,
        model_facts.software,
        model_facts.initialisation,
        model_facts.hyperparameters,
        model_facts.augmentation,
        model_facts.imbalance,
        model_facts.searched,
        model_facts.tried,
        model_facts.selection,
        model_facts.ensemble,
        model_facts.seeds,
        model_facts.hardware,
        model_facts.reproduce,
        model_facts.availability,
        result_facts.test_auc,
        result_facts.internal_test,
        result_facts.test_metrics,
        result_facts.operating_point,
        result_facts.calibration,
        result_facts.cross_table,
        result_facts.failures,
        result_facts.metrics,
        result_facts.intervals,
        result_facts.seed_spread,
        result_facts.gap,
        result_facts.explainability,
        result_facts.external,
        result_facts.external_counts,
        result_facts.subgroups,
        result_facts.by_site,
        result_facts.updating,
        result_facts.sample_size,
        result_facts.limitations,
    )
}
"""A fact's key is its function's name."""

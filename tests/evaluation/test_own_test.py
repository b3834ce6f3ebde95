"""Subgroups of a confirmed model's own test split: columns of the data joined with the kept predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import making
from made_confirmations import made_model, made_result
from made_models import CONFIG
from medfathom.confirm import _columns, _subgroups
from medfathom.confirmation.find import SUBGROUPS, predictions_file
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.data.sources.open import open_source
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError, InputError
from medfathom.evaluation.judging import Predictions
from medfathom.evaluation.own_test import columns_by_name, own_subgroups
from medfathom.evaluation.subgroups import subgroups_of
from medfathom.models.folder import write_config

N = 300


def kept_model(folder: Path) -> tuple[Any, Predictions]:
    """A model folder with the test predictions of `confirm`, and the same as logits."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(N) % 2)
    logits = np.column_stack([np.zeros(N), random.normal(0, 1, N) + 2 * (labels - 0.5)])
    config = CONFIG.model_copy(update={"temperature": 2.0})
    found = Predictions(config, labels, logits, np.array([f"p{k // 2}" for k in range(N)]))
    folder.mkdir()
    write_config(folder, config)
    table = {
        "name": [f"test_images[{k}]" for k in range(N)],
        "group": found.groups,
        "label": labels,
        "probability:ill": found.probabilities[:, 0],
    }
    pd.DataFrame(table).to_parquet(predictions_file(folder, "test"))
    return made_model(folder=folder), found


def test_they_are_those_of_the_predictions_whatever_the_order_of_the_data(tmp_path: Path) -> None:
    model, found = kept_model(tmp_path / "trial")
    sex = np.array(["F", "M", ""] * 100)
    by_name = {f"test_images[{k}]": cell for k, cell in reversed(list(enumerate(sex.tolist())))}
    own, direct = own_subgroups(model, {"sex": by_name}), subgroups_of(found, {"sex": sex})
    assert own.left_out == {"sex": 100}
    for one, other in zip(own.groups, direct.groups, strict=True):
        assert (one.value, one.n, one.n_patients) == (other.value, other.n, other.n_patients)
        for metric in ("auc", "sensitivity", "specificity", "difference"):
            assert vars(getattr(one, metric)) == pytest.approx(vars(getattr(other, metric)), abs=1e-9)
        assert one.p_holm == pytest.approx(other.p_holm, abs=1e-9)


def test_the_study_keeps_them_without_a_patient(tmp_path: Path) -> None:
    model, _ = kept_model(tmp_path / "trial")
    summary = ConfirmationSummary(
        study="s",
        modality="OCT",
        unfinished=None,
        openings=(),
        strata=(made_result(models=(model,)),),
        missing=(),
        failures=(),
    )

    class _Study:
        def __init__(self) -> None:
            self.user_attrs: dict[str, Any] = {"definition": {}}

        def set_user_attr(self, key: str, value: object) -> None:
            self.user_attrs[key] = value

    study: Any = _Study()
    columns = {"sex": {f"test_images[{k}]": "FM"[k % 2] for k in range(N)}}
    assert _subgroups(study, summary, columns) is not None
    kept = json.dumps(study.user_attrs[SUBGROUPS])
    assert '"sex F"' in kept
    assert "p17" not in kept
    assert "test_images" not in kept
    assert _subgroups(study, summary, {}) is None


def test_columns_of_an_npz_file(workdir: Path) -> None:
    sex = {f"{split}_sex": np.array(list("FM") * (n // 2)) for split, n in making.SIZES.items()}
    path = making.npz(workdir, **sex)
    config = making.config("npz", path=str(path), keep=["sex"])
    found = columns_by_name(config, "SEX")
    assert set(found) == {"sex"}
    assert found["sex"]["test_images[1]"] == "M"
    with pytest.raises(InputError, match="--by age: the data keep no such column"):
        columns_by_name(config, "age")
    missing = making.config("npz", path=str(path), keep=["age"])
    with pytest.raises(DataError, match="no array train_age"):
        columns_by_name(missing, "age")


def test_columns_of_the_tables_beside_hdf5_files(workdir: Path) -> None:
    folder = making.hdf5(workdir / "pcam")
    for split, n in making.SIZES.items():
        word = "valid" if split == "val" else split
        rows = "\n".join(f"slide{k},{'AB'[k % 2]}" for k in range(n))
        (folder / f"meta_{word}.csv").write_text(f"wsi,centre\n{rows}\n")
    table = {"path": str(folder), "groups": "meta_{split}.csv"}
    source = open_source(making.config("hdf5", **table, keep=["centre"]))
    listing = source.listing()
    source.close()
    assert listing.kept["centre"][:4].tolist() == ["A", "B", "A", "B"]
    assert listing.groups is not None
    assert listing.groups[1] == "slide1"
    bad = open_source(making.config("hdf5", **table, keep=["center"]))
    with pytest.raises(DataError, match=r"dataset\.keep: .*no column 'center'; did you mean 'centre'"):
        bad.listing()
    bad.close()


def test_a_kept_column_does_not_make_another_study(workdir: Path) -> None:
    path = making.npz(workdir)
    Path("s.toml").write_text(
        f'version = 1\nname = "s"\n[dataset]\nsource = "npz"\npath = "{path}"\nmodality = "OCT"\n'
        "image_size = 16\n"
    )
    plain = load_definition("s.toml")
    with_sex = load_definition("s.toml", ['dataset.keep=["sex"]'])
    assert plain.definition_hash == with_sex.definition_hash
    assert _columns(plain, "") == {}

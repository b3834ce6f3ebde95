"""Tables and trials read; every kind of bad input said in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from made_studies import PAPER, lookup, study, unheard_of
from medfathom.analysis import analyze, from_trials, read_tables
from medfathom.analysis.results import Exclusion
from medfathom.analysis.rows import prepare
from medfathom.analysis.tables import Reading
from medfathom.errors import ModelError, ResultsError
from medfathom.metrics.tuning import chances_of_choice

HEADER = "architecture,dataset,modality,auc\n"


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def message(frame: pd.DataFrame) -> str:
    with pytest.raises(ResultsError) as error:
        prepare(frame, lookup)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_columns_are_mapped_in_either_order_and_rows_chosen(tmp_path: Path) -> None:
    path = table(tmp_path, "net,ds,kind,auc,scheme\nvgg16,a,CXR,0.9,full\nvgg19,a,CXR,0.8,none\n")
    maps = {"architecture": "net", "ds": "dataset", "modality": "kind"}
    frame, left_out = read_tables([path], maps, {"scheme": "full"})
    assert frame["architecture"].tolist() == ["vgg16"]
    assert [(x.reason, x.rows) for x in left_out] == [("scheme is not full (--where)", 1)]


def test_several_tables_come_together(tmp_path: Path) -> None:
    one = table(tmp_path, HEADER + "vgg16,a,CXR,0.9\n", "one.csv")
    two = table(tmp_path, HEADER + "vgg16,b,OCT,0.8\n", "two.csv")
    frame, _ = read_tables([one, two])
    assert frame["dataset"].tolist() == ["a", "b"]


def test_percent(tmp_path: Path) -> None:
    path = table(tmp_path, HEADER + "vgg16,a,CXR,97.5\n")
    frame, _ = read_tables([path], percent=True)
    assert frame["auc"].tolist() == [0.975]
    raw, _ = read_tables([path])
    assert "--percent" in message(raw)
    assert "row 2" in message(raw)


def test_percent_is_of_every_auc_and_its_error(tmp_path: Path) -> None:
    text = "architecture,dataset,modality,auc,train_auc,val_auc,auc_se\nvgg16,a,CXR,92,99,95,0.5\n"
    frame, _ = read_tables([table(tmp_path, text)], percent=True)
    rows, _ = prepare(frame, lookup)
    columns = ["auc", "train_auc", "val_auc", "auc_se"]
    assert rows[columns].to_numpy().tolist() == [[0.92, 0.99, 0.95, 0.005]]


@pytest.mark.parametrize("cell", ['"95,3"', "high"])
def test_a_percentage_that_is_no_number_names_its_row(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path, HEADER + f"vgg19,a,CXR,90\nvgg16,a,CXR,{cell}\n")
    with pytest.raises(ResultsError, match=r"row 3 \(vgg16 on a\): auc = '.*' is not a number"):
        read_tables([path], percent=True)


@pytest.mark.parametrize("train_auc", [-0.1, 1.5, 99.0])
def test_training_auc_outside_its_range(train_auc: float) -> None:
    frame = study().assign(train_auc=0.9)
    frame.loc[7, "train_auc"] = train_auc
    text = message(frame)
    assert f"row 7 (vgg19 on chest): train_auc = {train_auc:g}" in text
    assert ("--percent" in text) == (train_auc > 1)


def test_missing_predictors_come_from_the_catalog() -> None:
    frame = pd.DataFrame({"architecture": ["vgg16"], "dataset": ["a"], "modality": ["CXR"], "auc": [0.9]})
    rows, _ = prepare(frame, lookup)
    assert (rows["n_params"].item(), rows["depth"].item(), rows["family"].item()) == (138_357_544, 16, "vgg")


def test_given_predictors_are_kept() -> None:
    given = study().assign(n_params=lambda f: 1.1 * f["n_params"])
    assert set(prepare(given, lookup)[0]["n_params"]) == set(given["n_params"])


def test_a_count_in_millions_is_refused() -> None:
    """One network's 138.4 beside the catalog's counts turned inconclusive into negligible."""
    frame = study()
    millions = frame["n_params"].where(frame["architecture"] != "vgg16", 138.4)
    assert "138.4 is too small for a network" in message(frame.assign(n_params=millions))


@pytest.mark.parametrize(("column", "value"), [("n_params", 14.7e6), ("depth", 64)])
def test_a_size_far_from_the_catalogs_is_refused_with_the_factor(column: str, value: float) -> None:
    frame = study()
    frame[column] = frame[column].where(frame["architecture"] != "vgg16", value)
    assert "a factor of" in message(frame)
    assert "vgg16" in message(frame)


def test_two_sizes_of_one_network_are_refused() -> None:
    frame = unheard_of(study())
    frame.loc[0, "n_params"] *= 10
    with pytest.raises(ResultsError, match=r"another row has .* a factor of 10"):
        prepare(frame)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (HEADER, "no rows"),
        ("architecture,dataset,auc\nvgg16,a,0.9\n", "no column 'modality'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        read_tables([table(tmp_path, text)])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such file"):
        read_tables([tmp_path / "none.csv"])


def test_a_file_that_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(ResultsError, match=r"cannot be read as CSV|no column"):
        read_tables([path])


@pytest.mark.parametrize(
    ("maps", "wheres", "says"),
    [
        ({"architecture": "nett"}, {}, "did you mean 'net'"),
        ({"architectur": "net"}, {}, "did you mean 'architecture'"),
        ({}, {"schema": "x"}, "did you mean 'scheme'"),
        ({}, {"scheme": "x"}, "no rows with scheme=x"),
    ],
)
def test_maps_and_wheres_that_fit_nothing(tmp_path: Path, maps: dict, wheres: dict, says: str) -> None:
    path = table(tmp_path, "net,dataset,modality,auc,scheme\nvgg16,a,CXR,0.9,full\n")
    with pytest.raises(ResultsError, match=says):
        read_tables([path], maps, wheres)


@pytest.mark.parametrize("auc", [-0.1, 1.5, 97.0])
def test_auc_outside_its_range(auc: float) -> None:
    frame = study()
    frame.loc[7, "auc"] = auc
    text = message(frame)
    assert f"{auc:g}" in text
    assert ("--percent" in text) == (auc > 1)


def test_auc_that_is_no_number() -> None:
    assert "'high' is not a number" in message(
        study().astype({"auc": object}).replace({"auc": {}}).assign(auc="high")
    )


def test_negative_sizes() -> None:
    assert "n_params" in message(study().assign(n_params=-1))


def test_an_unknown_name_names_its_row() -> None:
    def nothing(name: str) -> None:
        raise ModelError(f"unknown architecture {name!r}; did you mean 'vgg16'?")

    frame = pd.DataFrame({"architecture": ["vgg61"], "dataset": ["a"], "modality": ["CXR"], "auc": [0.9]})
    with pytest.raises(ResultsError, match=r"row 0 \(vgg61 on a\).*did you mean 'vgg16'"):
        prepare(frame, nothing)


def test_mixed_modalities_for_one_data_set() -> None:
    frame = study()
    frame.loc[3, "modality"] = "OCT"
    assert "'chest' has several modalities: CXR, OCT" in message(frame)


def test_several_families_for_one_architecture() -> None:
    frame = study()
    frame.loc[0, "family"] = "other"
    assert "several families" in message(frame)


def test_repeated_rows_are_left_out_and_counted() -> None:
    frame = study()
    rows, left_out = prepare(pd.concat([frame, frame.head(3)]), lookup)
    assert len(rows) == len(frame)
    assert [(x.reason, x.rows) for x in left_out] == [("a repeat of an earlier row", 3)]


def test_a_column_that_tells_rows_apart_belongs_into_the_cell() -> None:
    frame = study(seeds=2).drop(columns=["seed", "setting"]).assign(resolution=["28", "64"] * 20)
    found = analyze(frame, lookup=lookup, draws=300, permutations=99)
    assert set(found.rows["setting"]) == {"resolution=28", "resolution=64"}
    assert found.modalities["CXR"].counts.n_cells == 4
    assert "same resolution" in found.notes[0]


def test_rows_that_only_results_tell_apart_are_refused() -> None:
    frame = study(seeds=2).drop(columns="seed")
    loss = [str(i / 40) for i in range(len(frame))]
    assert "--best-by COLUMN" in message(frame.assign(val_loss=loss))


def test_a_remark_is_no_way_to_tell_rows_apart() -> None:
    frame = study().iloc[:4]
    frame = pd.concat([frame, frame.assign(auc=frame["auc"] - 0.01)], ignore_index=True)
    with pytest.raises(ResultsError, match="no column shows how they differ"):
        prepare(frame.assign(remark=[f"run {i}" for i in range(8)]))


def test_labels_called_seeds_that_only_some_networks_have_are_blocks() -> None:
    """Resolutions as seeds: the large networks have only the two at which AUC is higher."""
    higher = {"28": 0.0, "64": 0.01, "128": 0.02, "224": 0.03}
    rows = [
        (name, "a", "CXR", 0.9 + gain, resolution)
        for place, name in enumerate(PAPER)
        for resolution, gain in higher.items()
        if place >= 2 or resolution in ("128", "224")
    ]
    frame = pd.DataFrame(rows, columns=["architecture", "dataset", "modality", "auc", "seed"])
    found = analyze(frame, lookup=lookup, draws=300, permutations=99)
    answer = found.modalities["CXR"].predictors["log10_params"]
    assert answer.slope == pytest.approx(0, abs=1e-9)
    assert "different seeds in 1 cell" in found.notes[0]


def two_spellings(facts: bool = False) -> pd.DataFrame:
    """ResNet-18 and resnet18 on one data set, beside another network."""
    frame = pd.DataFrame({"architecture": ["ResNet-18", "resnet18", "vgg16"], "auc": [0.9, 0.8, 0.7]})
    if facts:  # of the first row only
        frame = frame.assign(n_params=[11.2e6, None, None], depth=[18, None, None])
        frame["family"] = ["resnet", None, None]
    return frame.assign(dataset=["a", "b", "a"], modality="CXR")


@pytest.mark.parametrize("facts", [False, True])
def test_spellings_of_one_architecture_are_one(facts: bool) -> None:
    rows, _ = prepare(two_spellings(facts))
    assert rows["architecture"].tolist() == ["resnet18", "resnet18", "vgg16"]
    assert rows["n_params"].iloc[0] == pytest.approx(11.2e6 if facts else rows["n_params"].iloc[1])


@pytest.mark.parametrize("facts", [False, True])
def test_spellings_of_one_architecture_in_one_cell_are_refused(facts: bool) -> None:
    with pytest.raises(
        ResultsError, match=r"row 0 and .*row 1: both are resnet18 \(ResNet-18 and resnet18\) on a"
    ):
        prepare(two_spellings(facts).assign(dataset="a"))


def test_unknown_names_with_facts_stay_as_they_are() -> None:
    frame = study().replace({"architecture": {"vgg16": "My-Net*", "vgg19": "mynet"}})
    assert {"My-Net*", "mynet"} <= set(prepare(frame)[0]["architecture"])


def test_whole_numbers_as_text_are_one_cell(tmp_path: Path) -> None:
    header = "architecture,dataset,modality,auc,unfreeze_depth,seed\n"
    text = header + "vgg16,a,CXR,0.9,5.0,1\nvgg19,a,CXR,0.8,5,1.0\n"
    rows, _ = prepare(read_tables([table(tmp_path, text)])[0], lookup)
    assert set(rows["unfreeze_depth"]) == {"5"}
    assert set(rows["seed"]) == {"1"}


def test_two_studies_of_one_data_set_are_named() -> None:
    common = {"seed": 0, "dataset": "a", "modality": "CXR"}
    records = [record("vgg16", 0.9 - i / 10, study=name, **common) for i, name in enumerate(("one", "two"))]
    frame, _ = from_trials(records, exploratory=False)
    text = message(frame)
    assert text.startswith("study one and study two: both are vgg16 on a")
    assert text.endswith("analyse the studies one at a time")
    published = pd.DataFrame([{**records[1], "study": None, "_source": "t.csv", "_row": 2}])
    both = message(pd.concat([frame.head(1), published], ignore_index=True))
    assert both.startswith("study one and t.csv, row 2: both are vgg16 on a")
    assert "--where" in both


def test_rows_without_an_auc_are_counted() -> None:
    frame = study()
    frame.loc[[1, 2], "auc"] = np.nan
    rows, left_out = prepare(frame, lookup)
    assert len(rows) == len(frame) - 2
    assert left_out[0].rows == 2


def test_nothing_left() -> None:
    assert "no row has an AUC" in message(study().assign(auc=np.nan))
    assert "empty" in message(study().head(0))


def test_a_missing_column() -> None:
    assert "no column 'modality'" in message(study().drop(columns="modality"))


def record(
    architecture: str, auc: float | None, state: str = "COMPLETE", **more: object
) -> dict[str, object]:
    family, n_params, depth = (getattr(lookup(architecture), k) for k in ("family", "n_params", "depth"))
    known = {"architecture": architecture, "family": family, "n_params": n_params, "depth": depth}
    return {**known, "state": state, "auc": auc, "init": "imagenet", "unfreeze_depth": 5, **more}


def test_stopped_and_failed_trials_are_no_results() -> None:
    records = [
        record("vgg16", 0.9),
        record("vgg16", 0.5, "PRUNED"),
        record("vgg19", None, "FAIL"),
        record("vgg19", 0.8),
    ]
    frame, left_out = from_trials(records, dataset="a", modality="CXR")
    assert sorted(frame["auc"]) == [0.8, 0.9]
    assert {x.reason: x.rows for x in left_out} == {"stopped early, so not a finished model": 1, "failed": 1}


def test_strata_searched_more_do_not_win_by_it() -> None:
    """Twenty tries of one network against two of another: both stand with the expected best of two."""
    tries = np.linspace(0.70, 0.89, 20)
    records = [record("vgg16", float(a)) for a in tries] + [record("vgg19", 0.79), record("vgg19", 0.80)]
    frame, left_out = from_trials(records, dataset="a", modality="CXR")
    auc = frame.set_index("architecture")["auc"]
    assert auc["vgg19"] == pytest.approx(0.80)
    assert auc["vgg16"] == pytest.approx(chances_of_choice(tries, np.full(20, np.nan), 2, "auc") @ tries)
    assert auc["vgg16"] < tries.max()
    assert left_out[0].rows == 20
    assert "best of 2" in left_out[0].reason


def test_the_studys_rule_decides_which_trial_stands_for_its_stratum() -> None:
    trials = [(0.903, 0.9, 1e-2), (0.901, 0.2, 1e-3)]
    records = [
        record("vgg16", auc, log_loss=loss, learning_rate=rate, choice_by="auc_then_log_loss")
        for auc, loss, rate in trials
    ]
    other = record("vgg19", 0.8, log_loss=0.5, choice_by="auc_then_log_loss")
    frame, _ = from_trials([*records, other, other], dataset="a", modality="CXR")
    stands = frame.set_index("architecture").loc["vgg16"]
    assert (stands["auc"], stands["learning_rate"]) == (pytest.approx(0.901), 1e-3)


def test_strata_searched_more_do_not_overfit_by_it() -> None:
    """Every trial has a gap of 0.02; the large networks were tried ten times, the small ones once."""
    rng = np.random.default_rng(0)
    tries = {"densenet121": 1, "densenet169": 1, "xception": 1, "vgg16": 10, "vgg19": 10, "resnet152": 10}
    records = [
        record(name, auc, train_auc=auc + 0.02)
        for name, count in tries.items()
        for auc in rng.uniform(0.7, 0.9, count).tolist()
    ]
    frame, _ = from_trials(records, dataset="a", modality="CXR")
    gap = analyze(frame, exploratory=True).to_dict()["generalisation_gap"]["modalities"]["CXR"]
    assert gap["mean_gap"] == pytest.approx(0.02)
    assert gap["predictors"]["log10_params"]["slope"] == pytest.approx(0, abs=1e-9)


def test_confirmed_results_are_taken_as_they_are() -> None:
    records = [record("vgg16", 0.9, seed=s, dataset="a", modality="CXR") for s in range(3)]
    assert len(from_trials(records, exploratory=False)[0]) == 3


def test_no_complete_trial() -> None:
    with pytest.raises(ResultsError, match="no complete trial"):
        from_trials([record("vgg16", 0.5, "PRUNED")], dataset="a", modality="CXR")


def test_trials_without_a_data_set() -> None:
    with pytest.raises(ResultsError, match="pass dataset="):
        from_trials([record("vgg16", 0.5)], modality="CXR")


@pytest.mark.large
def test_published_table(shared: Path) -> None:
    """Five of the ten networks there are one, ViT-B/16: one architecture, not five."""
    maps = {"unfreeze_depth": "scheme", "seed": "resolution"}
    frame, left_out = read_tables([shared / "tables" / "medmnistplus.csv"], maps, {"init": "imagenet"})
    found = analyze(frame, exclusions=left_out).to_dict()
    assert {m: v["n_architectures"] for m, v in found["modalities"].items()} == {"CXR": 6, "OCT": 6, "WSI": 6}
    assert found["modalities"]["CXR"]["datasets"] == ["chestmnist", "pneumoniamnist"]
    assert set(frame["unfreeze_depth"]) == {"end-to-end", "linear-probing"}
    assert found["exclusions"][0]["rows"] == 320 - 192
    json.dumps(found, allow_nan=False)


def test_a_table_without_networks_is_inconclusive(shared: Path) -> None:
    """Two networks and three AutoML systems: the systems have no size, two networks no slope."""
    maps = {"architecture": "method", "seed": "input_px"}
    wheres = {"method": "ResNet-18,ResNet-50"}
    frame, left_out = read_tables([shared / "tables" / "medmnist_v2.csv"], maps, wheres)
    analysis = analyze(frame, exclusions=left_out)
    assert set(analysis.rows["architecture"]) == {"resnet18", "resnet50"}  # the paper writes ResNet-18
    found = analysis.to_dict()
    answers = [p for m in found["modalities"].values() for p in m["predictors"].values()]
    assert {p["verdict"] for p in answers} == {"inconclusive"}
    assert all("at least 3" in p["reason"] for p in answers)


def test_a_refused_table_is_told_the_way(tmp_path: Path) -> None:
    """As a new user would meet them: another name for the networks, a wide table, methods that are none."""
    named = tmp_path / "named.csv"
    named.write_text("dataset,method,input_px,auc,modality\npath,ResNet-18,28,0.98,WSI\n")
    with pytest.raises(ResultsError, match="--map architecture=method"):
        read_tables([named])
    wide = tmp_path / "wide.csv"
    wide.write_text("model,bach,crc,mhist,panda\nvirchow,0.8,0.9,0.7,0.6\nuni,0.8,0.9,0.7,0.6\n")
    with pytest.raises(
        ResultsError,
        match=r"seems to have one column .*--map architecture=model, .* --wide bach,crc,mhist,panda",
    ):
        read_tables([wide])
    rows = [
        {"architecture": name, "dataset": "path", "modality": "WSI", "auc": 0.9}
        for name in ("ResNet-18", "ResNet-50", "auto-sklearn")
    ]
    with pytest.raises(ResultsError, match=r"--where architecture=ResNet-18,ResNet-50"):
        prepare(pd.DataFrame(rows))


def test_a_wide_table_has_a_data_set_in_each_column(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("Model;n_params;bach;crc\nuni;25.6M;0,8;0,9\nvirchow;632,000,000;0,7;-\n")
    fixed = {"modality": "WSI", "depth": "12", "family": "vit"}
    reading = Reading(maps={"architecture": "Model"}, fixed=fixed, wide=["bach", "crc"])
    rows, left_out = prepare(read_tables([path], reading=reading)[0])
    assert list(zip(rows["architecture"], rows["dataset"], rows["auc"], strict=True)) == [
        ("uni", "bach", 0.8),
        ("virchow", "bach", 0.7),
        ("uni", "crc", 0.9),
    ]
    assert rows["n_params"].tolist() == [25.6e6, 632e6, 25.6e6]
    assert Exclusion("no AUC", 1, "wide.csv") in left_out
    with pytest.raises(ResultsError, match=r"--wide crcc: no such column; did you mean 'crc'"):
        read_tables([path], reading=Reading(maps={"architecture": "Model"}, wide=["crcc"]))


def test_columns_are_known_under_any_spelling_and_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("Architecture,Dataset,Modality,AUC,Unfreeze depth,n_params\nvgg16,a,CXR,0.9,5,138.4\n")
    rows, _ = read_tables([path], reading=Reading(fixed={"n_params": ""}))
    assert {"architecture", "dataset", "modality", "auc", "unfreeze_depth"} <= set(rows)
    assert "n_params" not in rows


@pytest.mark.parametrize(
    ("best_by", "kept", "says"),
    [
        ("auc", 0.9, r"optimistic: on average the chosen runs are 0\.1000 above the mean"),
        ("-val_loss", 0.7, r"-0\.1000 from the mean of their search and by -0\.2000 from its best"),
    ],
)
def test_what_the_choice_of_the_best_run_does_is_told_in_numbers(
    tmp_path: Path, best_by: str, kept: float, says: str
) -> None:
    path = tmp_path / "search.csv"
    path.write_text(
        "architecture,dataset,modality,lr,auc,val_loss\nvgg16,a,CXR,1,0.9,2\nvgg16,a,CXR,2,0.7,1\n"
    )
    rows, left_out = read_tables([path], reading=Reading(best_by=best_by))
    assert rows["auc"].astype(float).tolist() == [kept]
    assert re.search(says, left_out[0].reason)


def test_runs_without_a_number_to_choose_by_are_counted_and_named(tmp_path: Path) -> None:
    """A network whose runs have none is gone: it was counted among the runs that were not the best."""
    path = tmp_path / "search.csv"
    path.write_text(
        "architecture,dataset,modality,auc,val_loss\nvgg16,a,CXR,.9,2\nvgg16,a,CXR,.8,1\nvgg16,a,CXR,,\n"
        "resnet18,a,CXR,.85,\nresnet18,a,CXR,.75,\n"
    )
    rows, left_out = read_tables([path], reading=Reading(best_by="val_loss"))
    assert rows["auc"].astype(float).tolist() == [0.8]
    assert [each.rows for each in left_out] == [1, 3]
    assert left_out[1].reason == "no val_loss to choose by; searches without any: of resnet18"
    rows, left_out = read_tables([path], reading=Reading(best_by="auc"))
    assert rows["auc"].astype(float).tolist() == [0.9, 0.85]
    assert "which is optimistic" in left_out[0].reason  # one missing AUC made it "not optimistic"
    path.write_text("architecture,dataset,modality,auc,val_loss\nvgg16,a,CXR,.9,\n")
    with pytest.raises(ResultsError, match="--best-by val_loss: no row has a number there"):
        read_tables([path], reading=Reading(best_by="val_loss"))


def test_lines_without_any_cell_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "spreadsheet.csv"
    path.write_text("architecture,dataset,modality,auc,n_params\n,,,,\nvgg16,a,CXR,.9,inf\n,,,,\n")
    found, _ = read_tables([path])
    assert found["architecture"].tolist() == ["vgg16"]
    with pytest.raises(ResultsError, match=r"spreadsheet.csv, row 3 .* n_params = 'inf' is not a number"):
        prepare(found, lookup)


def test_a_modality_by_data_set(tmp_path: Path) -> None:
    """Given in one option; known of MedMNIST's; a data set that is forgotten is named."""
    path = tmp_path / "none.csv"
    path.write_text("architecture,dataset,auc\nvgg16,a,0.9\nvgg16,b,0.8\n")
    rows, _ = read_tables([path], reading=Reading(fixed={"modality": "a:CXR,b:OCT"}))
    assert rows["modality"].tolist() == ["CXR", "OCT"]
    with pytest.raises(ResultsError, match="no modality for data set 'b'; add b:VALUE"):
        read_tables([path], reading=Reading(fixed={"modality": "a:CXR"}))
    both = Reading(fixed={"modality": "CXR", "n_params": "vgg16:138M"})
    assert read_tables([path], reading=both)[0]["n_params"].astype(float).tolist() == [138e6, 138e6]
    path.write_text("architecture,dataset,auc\nvgg16,pathmnist,0.9\nvgg16,OCTMNIST,0.8\n")
    assert read_tables([path])[0]["modality"].tolist() == ["WSI", "OCT"]


@pytest.mark.parametrize("column", ["Val_Loss", "val loss", "NLL", "test_Brier", "Error", "val_ece"])
def test_the_lowest_loss_is_the_best_however_it_is_spelled(tmp_path: Path, column: str) -> None:
    """Before, Val_Loss took the run with the highest loss. In per cent, what the choice does is in AUC."""
    path = tmp_path / "search.csv"
    rows = "vgg16,a,CXR,1,90,2\nvgg16,a,CXR,2,70,1\n"
    path.write_text(f"architecture,dataset,modality,lr,auc,{column}\n{rows}")
    found, left_out = read_tables([path], reading=Reading(best_by=column, percent=True))
    assert found["auc"].astype(float).tolist() == [0.7]
    assert f"by lowest {column}" in left_out[0].reason
    assert "-0.1000 from the mean of their search" in left_out[0].reason


def test_other_columns_are_best_where_they_are_highest(tmp_path: Path) -> None:
    path = tmp_path / "search.csv"
    path.write_text("architecture,dataset,modality,lr,auc,recency\nvgg16,a,CXR,1,.9,2\nvgg16,a,CXR,2,.7,1\n")
    assert read_tables([path], reading=Reading(best_by="recency"))[0]["auc"].tolist() == [".9"]

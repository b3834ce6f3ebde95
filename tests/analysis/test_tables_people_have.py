"""Tables as people have them: what would silently change a number is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_studies import analyze, lookup, study
from medfathom.analysis import read_tables
from medfathom.analysis.names import refuse_unknown
from medfathom.analysis.rows import prepare
from medfathom.analysis.size.association import Association
from medfathom.analysis.tables import Reading
from medfathom.errors import ModelError, ResultsError

HEADER = "architecture,dataset,modality,auc\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    frame, _ = read_tables([table(folder, text)])
    with pytest.raises(ResultsError) as error:
        prepare(frame, lookup)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("cells", [("0.975", "0.8"), ("97.5", "0.8"), ("97.5", "1")])
def test_a_fraction_among_percentages_is_refused(tmp_path: Path, cells: tuple[str, str]) -> None:
    text = HEADER + f"vgg16,a,CXR,{cells[0]}\nvgg19,a,CXR,{cells[1]}\n"
    with pytest.raises(ResultsError, match=r"auc = [\d.]+ is a fraction, but with --percent"):
        read_tables([table(tmp_path, text)], percent=True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("vgg16,a,CXR,.9,imagenet,vgg\nvgg19,b,cxr,.8,imagenet,vgg\n", "modality 'cxr' and 'CXR'"),
        ("vgg16,a_1,CXR,.9,imagenet,vgg\nvgg19,A-1,CXR,.8,imagenet,vgg\n", "dataset 'A-1' and 'a_1'"),
        ("vgg16,a,CXR,.9,imagenet,vgg\nvgg19,a,CXR,.8,ImageNet,vgg\n", "init 'ImageNet' and 'imagenet'"),
        ("vgg16,a,CXR,.9,imagenet,vgg\nvgg19,a,CXR,.8,imagenet,VGG\n", "family 'VGG' and 'vgg'"),
    ],
)
def test_two_spellings_of_one_name_are_refused(tmp_path: Path, rows: str, words: str) -> None:
    text = refusal(tmp_path, HEADER[:-1] + ",init,family\n" + rows)
    assert words + " differ only in their spelling" in text
    assert "row 3" in text


@pytest.mark.parametrize("name", ["mean", "Average", "avg.", "Overall", "mean over datasets"])
def test_a_mean_over_data_sets_is_no_data_set(tmp_path: Path, name: str) -> None:
    text = refusal(tmp_path, HEADER + f"vgg16,a,CXR,.9\nvgg16,b,CXR,.8\nvgg16,{name},CXR,.85\n")
    assert f"row 4 (vgg16 on {name}): {name!r} sums up data sets and is none" in text
    assert "--where dataset=a,b " in text


@pytest.mark.parametrize(
    ("header", "columns"), [("AUC,auc", "'AUC' and 'auc'"), ("auc,auc", "'auc' and 'auc.1'")]
)
def test_two_columns_of_one_meaning_are_refused(tmp_path: Path, header: str, columns: str) -> None:
    path = table(tmp_path, f"architecture,dataset,modality,{header}\nvgg16,a,CXR,.5,.9\n")
    with pytest.raises(ResultsError, match=f"two columns are 'auc', {columns}, and their cells differ"):
        read_tables([path])
    second = columns.split("'")[3]
    frame, _ = read_tables([path], {"auc": second})
    assert frame["auc"].tolist() == [".9"]


def test_a_column_that_is_there_twice_alike_is_one(tmp_path: Path) -> None:
    frame, _ = read_tables([table(tmp_path, "architecture,dataset,modality,AUC,auc\nvgg16,a,CXR,.9,.9\n")])
    assert frame["auc"].tolist() == [".9"]


def test_rows_that_end_with_a_separator_keep_their_columns(tmp_path: Path) -> None:
    frame, _ = read_tables([table(tmp_path, HEADER + "vgg16,a,CXR,0.9,\nvgg19,a,CXR,0.8,\n")])
    assert frame["architecture"].tolist() == ["vgg16", "vgg19"]
    assert frame["auc"].tolist() == ["0.9", "0.8"]


@pytest.mark.parametrize("note", ["", "x"])
def test_names_of_rows_that_r_writes_are_no_cells(tmp_path: Path, note: str) -> None:
    text = HEADER[:-1] + f",note\n1,vgg16,a,CXR,0.9,{note}\n2,vgg19,a,CXR,0.8,{note}\n"
    frame, _ = read_tables([table(tmp_path, text)])
    assert frame["architecture"].tolist() == ["vgg16", "vgg19"]


@pytest.mark.parametrize("cell", ["1,234", "1.234"])
def test_a_number_of_images_is_whole(tmp_path: Path, cell: str) -> None:
    rows = f"architecture;dataset;modality;auc;n_test\nvgg16;a;CXR;0,9;{cell}\n"
    assert "n_test = 1.234 is no number of images" in refusal(tmp_path, rows)


def test_a_table_in_another_encoding_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes((HEADER + "vgg16,größe,CXR,0.9\n").encode("latin-1"))
    with pytest.raises(ResultsError, match=r"cannot be read as CSV, as it is no text in UTF-8 .* save it as"):
        read_tables([path])


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("78.5%", "leave out the sign % and give --percent"),
        ('"0,91"', "write the decimal point"),
        ("0.91 (0.88-0.94)", "leave only the number in the cell"),
        ("0.91±0.01", "leave only the number in the cell"),
    ],
)
def test_a_cell_that_is_no_number_says_what_to_write(tmp_path: Path, cell: str, hint: str) -> None:
    assert f"is not a number; {hint}" in refusal(tmp_path, HEADER + f"vgg16,a,CXR,{cell}\n")


def test_a_name_with_a_pretrained_tag_says_how_to_take_it() -> None:
    with pytest.raises(ModelError, match=r"with a pretrained tag; --name resnet18.a1_in1k=resnet18"):
        refuse_unknown("resnet18.a1_in1k")


@pytest.mark.parametrize(
    ("column", "words"),
    [("metric", ("auc", "acc")), ("Statistic", ("mean", "std")), ("split", ("test", "train"))],
)
def test_other_metrics_and_splits_are_no_auc(tmp_path: Path, column: str, words: tuple[str, str]) -> None:
    """Before, the column became a setting, and accuracies were analysed as AUCs."""
    rows = "".join(
        f"{a},a,CXR,{v},{w}\n" for w, v in zip(words, (0.9, 0.7), strict=True) for a in ("vgg16", "vgg19")
    )
    text = refusal(tmp_path, HEADER[:-1] + f",{column}\n" + rows)
    assert f"row 4 (vgg16 on a): column {column!r} has {words[0]!r} and {words[1]!r}" in text
    assert f"--where {column}={words[0]}" in text


def test_a_split_that_is_a_number_or_was_asked_for_is_compared_within(tmp_path: Path) -> None:
    rows = [f"{a},a,CXR,{v},{{}}\n" for v in (0.9, 0.7) for a in ("vgg16", "vgg19")]
    folds = HEADER[:-1] + ",split\n" + "".join(r.format(i // 2) for i, r in enumerate(rows))
    assert len(prepare(read_tables([table(tmp_path, folds)])[0], lookup)[0]) == 4
    named = HEADER[:-1] + ",split\n" + "".join(r.format(("val", "test")[i // 2]) for i, r in enumerate(rows))
    asked = read_tables([table(tmp_path, named)], reading=Reading(settings=["split"]))[0]
    assert prepare(asked, lookup)[0]["setting"].unique().tolist() == ["split=val", "split=test"]


@pytest.mark.parametrize("words", [("1", "mean"), ("mean", "std"), ("1", "SEM")])
def test_a_mean_or_deviation_is_no_seed(tmp_path: Path, words: tuple[str, str]) -> None:
    rows = "".join(f"vgg16,a,CXR,{v},{w}\n" for v, w in zip((0.9, 0.01), words, strict=True))
    assert "sums up other rows and is no run" in refusal(tmp_path, HEADER[:-1] + ",seed\n" + rows)


def test_means_of_all_seeds_alone_are_results(tmp_path: Path) -> None:
    rows = "vgg16,a,CXR,.9,mean\nvgg19,a,CXR,.8,mean\n"
    assert len(prepare(read_tables([table(tmp_path, HEADER[:-1] + ",seed\n" + rows)])[0], lookup)[0]) == 2


def test_two_spellings_of_a_depth_are_refused(tmp_path: Path) -> None:
    rows = "vgg16,a,CXR,.9,Last block\nvgg19,a,CXR,.8,last-block\n"
    text = refusal(tmp_path, HEADER[:-1] + ",unfreeze_depth\n" + rows)
    assert "unfreeze_depth 'last-block' and 'Last block' differ only in their spelling" in text


@pytest.mark.parametrize("word", ["scratch", "From scratch", "Random", "none", "False", "not_pretrained"])
def test_random_weights_by_any_name_are_not_pretrained(word: str) -> None:
    """Before, they counted as pretrained weights, and pretraining was not asked about."""
    rows = study(inits=("imagenet", "random"), settings=1)
    top1 = dict(zip(sorted(rows["architecture"].unique()), range(70, 80), strict=True))
    named = rows.assign(
        init=rows["init"].replace("random", word), imagenet_top1=rows["architecture"].map(top1)
    )
    found = analyze(named, lookup=lookup)
    [pretraining] = found.pretraining
    assert (pretraining.init, pretraining.baseline) == ("imagenet", "random")
    answer = found.modalities["CXR"].imagenet
    assert isinstance(answer, Association)
    assert answer.n_architectures == 10


def test_a_blank_init_is_not_called_pretrained() -> None:
    rows = study(inits=("imagenet", "random"), settings=1)
    blank = rows.assign(init=rows["init"].where(rows["init"] == "random"))
    found = analyze(blank, lookup=lookup)
    assert found.pretraining == []
    assert found.pretraining_benefit == []


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        ("imagenet_top1", ("0.716", "72.4"), "imagenet_top1 = 0.716 is no percentage"),
        ("imagenet_top1", ("71.6", "724"), "imagenet_top1 = 724 is no percentage"),
        ("macs", ("15.5G", "19.6"), "macs = 19.6 is too small"),
        ("n_trainable_params", ("138.4", "143.7"), "n_trainable_params = 138.4 is too small"),
        ("auc_se", ("0.8", "0.7"), "auc_se = 0.8 is too large"),
        ("n_test", ('"5,000"', '"10,000"'), "n_test = 5,000 is no number of images"),
        ("n_train", ("5.000", "10.000"), "n_train = 5.000 is no number of images"),
    ],
)
def test_numbers_in_another_unit_are_refused(
    tmp_path: Path, column: str, cells: tuple[str, str], words: str
) -> None:
    rows = "".join(f"{a},a,CXR,.9,{c}\n" for a, c in zip(("vgg16", "vgg19"), cells, strict=True))
    assert words in refusal(tmp_path, HEADER[:-1] + f",{column}\n" + rows)


def test_thousands_of_a_table_with_decimal_commas_are_refused(tmp_path: Path) -> None:
    """Before, 5,000 images were 5."""
    text = "architecture;dataset;modality;auc;n_test\nvgg16;a;CXR;0,91;5,000\nvgg19;a;CXR;0,92;5,000\n"
    assert "n_test = 5.000 is no number of images" in refusal(tmp_path, text)


def test_a_cell_of_a_predictor_that_is_no_number_is_told() -> None:
    """Before, the network was left out: "flops is not known for vgg16"."""
    rows = study(settings=1, seeds=1)
    with pytest.raises(ResultsError, match=r"\(vgg16 on chest\): flops = '15.5G' is not a number"):
        analyze(
            rows.assign(flops=rows["architecture"].map({"vgg16": "15.5G"}).fillna("3.1")),
            predictors=["flops"],
            lookup=lookup,
        )

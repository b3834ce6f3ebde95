"""A model folder at work: files of every kind, arrays, what cannot be read, folders that were changed."""

import io
import json
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

import medfathom
from json_holds import holds
from made_models import CONFIG
from medfathom import cli
from medfathom.errors import DataError, ExportedModelError
from medfathom.exported.model import Model
from medfathom.exported.network import Deployed
from medfathom.exported.predictions import Predictions
from medfathom.metrics.probabilities import probabilities
from medfathom.models.folder import (
    CARD_FILE,
    CONFIG_FILE,
    MANIFEST_FILE,
    TIMM_FILE,
    WEIGHTS_FILE,
    read_config,
    write_config,
    write_manifest,
)
from medfathom.models.weights.lookup import locate_weights
from medfathom.terminal.predictions import predictions_text, write_csv

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights."""
    place = tmp_path_factory.mktemp("made") / "model"
    place.mkdir()
    torch.manual_seed(0)
    network = Deployed(CONFIG).network
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, place / WEIGHTS_FILE)
    write_config(place, CONFIG)
    write_manifest(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return medfathom.load(folder)


def grey(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def test_every_form_of_the_same_image_gives_the_same(model: Model, tmp_path: Path) -> None:
    image = grey(1)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "b.tiff")
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "c.png")
    Image.fromarray(np.repeat(image[:, :, None], 3, axis=2)).save(tmp_path / "d.bmp")
    arrays = [
        image,
        image[:, :, None],
        image.astype(np.uint16) * np.uint16(257),
        np.stack([image] * 3, axis=2),
    ]
    found = model.predict([tmp_path, *arrays])
    assert len(found) == 8
    assert np.ptp(found.probabilities, axis=0).max() < 1e-6
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    assert any("colour to grey" in remark for remark in found.remarks)


def test_logits_become_calibrated_probabilities_and_a_class(model: Model) -> None:
    images = np.stack([grey(k) for k in range(5)])[..., None]
    found = model.predict(images)
    expected = probabilities("binary", model.logits(images) / 2.0)
    assert found.probabilities[:, 1] == pytest.approx(expected[:, 0], abs=1e-7)
    assert found.predicted == ["ill" if p >= 0.5 else "well" for p in expected[:, 0]]


@pytest.mark.parametrize(
    ("task", "logits", "said"),
    [
        ("multiclass", [[3.0, 1.0, 2.0], [0.0, 0.1, 9.0]], ["a", "c"]),
        ("multilabel", [[3.0, -1.0, 2.0], [-5.0, -0.1, -9.0]], ["a|c", ""]),
    ],
)
def test_tasks_decide_in_their_own_way(
    model: Model, task: str, logits: list[list[float]], said: list[str]
) -> None:
    other = copy(model)
    changes = {
        "task": task,
        "class_names": ["a", "b", "c"],
        "thresholds": [0.6, None, 0.5],
        "temperature": 1.0,
    }
    other.config = CONFIG.model_copy(update=changes)
    found = other.decide(["x", "y"], np.array(logits, dtype=np.float32))
    assert found.predicted == said
    assert found.probabilities.shape == (2, 3)
    if task == "multiclass":
        assert found.probabilities.sum(axis=1) == pytest.approx(1)


def test_batches_do_not_change_the_answer(model: Model) -> None:
    images = np.stack([grey(k) for k in range(70)])[..., None]
    together = model.predict(images).probabilities
    apart = np.concatenate([model.predict(image).probabilities for image in images])
    assert together == pytest.approx(apart, abs=1e-5)


def test_cudnn_is_on_without_tf32(model: Model) -> None:
    seen: list[tuple[bool, bool]] = []
    cudnn = torch.backends.cudnn
    hook = model.module.register_forward_hook(lambda *_: seen.append((cudnn.enabled, cudnn.allow_tf32)))
    model.predict(grey(1))
    hook.remove()
    assert seen == [(True, False)]


def test_a_name_too_long_is_an_unreadable_image(model: Model) -> None:
    name = "a" * 300 + ".png"
    assert model.predict([name, grey(1)]).unreadable == {name: "cannot be read (File name too long)"}


def test_a_folder_is_listed_as_in_training(model: Model, tmp_path: Path) -> None:
    for name in ("a.png", "b/c.PNG", "a_mask.png", "._a.png", "Gr\udcf6.png", "new\nline.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(grey(1)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("x")
    other = copy(model)
    other.config = CONFIG.model_copy(update={"exclude": ["*_mask*"]})
    found = other.predict(tmp_path)
    names = ["Gr\\xf6.png", "a.png", "b/c.PNG", "new\\nline.png"]
    assert sorted(found.names) == [f"{tmp_path}/{name}" for name in names]
    assert {(one.reason, *one.names) for one in found.ignored} == {
        ("dataset.exclude '*_mask*'", "a_mask.png"),
        (".txt is not an image's suffix", "notes.txt"),
    }
    write_csv(found, tmp_path / "found.csv")
    assert "Gr\\xf6.png" in (tmp_path / "found.csv").read_text(encoding="utf-8")


def test_other_sizes_are_fitted_and_said(model: Model) -> None:
    found = model.predict([grey(1, 80), grey(2)])
    assert found.remarks == ["1 image resized to 32 x 32 pixels (squash)"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_12_bits_are_the_same_in_a_file_and_in_an_array(model: Model, tmp_path: Path, dtype: str) -> None:
    other = copy(model)
    other.config = CONFIG.model_copy(update={"dtype": dtype, "bits": 12})
    raw = grey(1).astype(np.uint16) * np.uint16(16)
    Image.fromarray(raw).save(tmp_path / "raw.png")
    whole = (raw.astype(np.int64) * 65535 // 4095).astype(np.uint16)
    as_trained = whole if dtype == "uint16" else (whole >> 8).astype(np.uint8)
    expected = other.decide([""], other.logits(as_trained[None, :, :, None])).probabilities[0]
    found = other.predict([tmp_path / "raw.png", raw, np.stack([raw] * 3, axis=2)])
    assert found.probabilities == pytest.approx(np.stack([expected] * 3), abs=1e-6)
    with pytest.raises(DataError, match=r"image 0: values from 0 to 4096, outside 0 to 4095"):
        other.predict(np.where(raw == raw.max(), np.uint16(4096), raw))


def test_dicom_is_read_by_the_window_of_the_training(model: Model, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
    from dicom_files import dataset, saved  # noqa: PLC0415

    hounsfield = np.random.default_rng(0).integers(-1024, 3071, (32, 32))
    made = dataset(
        hounsfield + 1024, 12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=9
    )
    (tmp_path / "a.dcm").write_bytes(saved(made))
    config = CONFIG.model_copy(update={"dtype": "uint16", "window": (40.0, 400.0)})
    write_config(tmp_path, config)
    other = copy(model)
    other.config = read_config(tmp_path)
    assert other.config.window == (40.0, 400.0)
    grey = np.rint(np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1) * 65535)  # PS3.3 C.11.2.1.2.1
    expected = other.decide([""], other.logits(grey.astype(np.uint16)[None, :, :, None])).probabilities
    assert other.predict(tmp_path / "a.dcm").probabilities == pytest.approx(expected, abs=1e-4)
    assert other.predict(tmp_path).probabilities == pytest.approx(expected, abs=1e-4)
    other.config = config.model_copy(update={"window": None})
    assert other.predict(tmp_path).probabilities != pytest.approx(expected, abs=1e-4)


def test_other_depths_are_said(model: Model) -> None:
    deep = grey(1).astype(np.uint16)
    assert model.predict([deep, grey(2)]).remarks == [
        "1 image converted from 16 bits (white: 65535) to 8, as the model was trained on images of 8 bits"
    ]
    other = copy(model)
    other.config = CONFIG.model_copy(update={"dtype": "uint16"})
    assert other.predict([deep, grey(2)]).remarks == [
        "1 image converted from 8 to 16 bits, as the model was trained on images of 16 bits"
    ]


def test_what_is_no_image_is_an_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dtype must be uint8 or uint16"):
        model.predict(np.zeros((32, 32)))
    with pytest.raises(DataError, match="but got shape"):
        model.predict(np.zeros((32, 32, 2), dtype=np.uint8))
    with pytest.raises(DataError, match="no image in this folder"):
        model.predict(tmp_path)


def test_the_command_skips_names_and_exits_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, absent = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "absent.png"
    Image.fromarray(grey(1)).save(good)
    bad.write_bytes(b"no image")
    table = tmp_path / "out.csv"

    def typed(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["medfathom", "predict", str(folder), *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    code, out, err = typed(good, bad, absent, "--json", "--csv", table)
    assert code == 1
    content = json.loads(out)
    holds("predict", content)
    assert [row["image"] for row in content["images"]] == [str(good)]
    assert set(content["unreadable"]) == {str(bad), str(absent)}
    assert "no such file" in err
    assert "not a PNG" in err
    header, row = table.read_text().splitlines()
    assert header == "image,predicted,well,ill"
    assert row.startswith(f"{good},")
    code, out, err = typed(good)
    assert (code, err) == (0, "")
    assert "Positive class: ill" in out
    code, _, err = typed(good, "--device", "tpu")
    assert (code, err.count("\n")) == (2, 1)


def test_a_folder_must_be_whole(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportedModelError, match="no such model folder"):
        medfathom.load(tmp_path / "none")
    with pytest.raises(ExportedModelError, match=f"has no {CONFIG_FILE}"):
        medfathom.load(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(ExportedModelError, match="version: field required"):
        medfathom.load(tmp_path)
    write_config(tmp_path, CONFIG)
    with pytest.raises(ExportedModelError, match=f"has no {MANIFEST_FILE}"):
        medfathom.load(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text(f"{'0' * 64}  ../elsewhere\n")
    with pytest.raises(ExportedModelError, match=f"does not name {WEIGHTS_FILE}"):
        medfathom.load(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / WEIGHTS_FILE)
    (tmp_path / CARD_FILE).write_text("card")
    write_manifest(tmp_path)
    with pytest.raises(ExportedModelError, match="not a tf_efficientnet_lite0's"):
        medfathom.load(tmp_path)


def test_as_an_init_it_must_be_of_the_architecture(folder: Path) -> None:
    found = locate_weights("tf_efficientnet_lite0", f"export:{folder}")
    assert found.normalization == ((0.5, 0.4, 0.3), (0.5, 0.5, 0.5))
    with pytest.raises(medfathom.InputError, match="is a tf_efficientnet_lite0, not a resnet18"):
        locate_weights("resnet18", f"export:{folder}")
    with pytest.raises(medfathom.InputError, match="no such model folder"):
        locate_weights("resnet18", "export:nowhere")


def test_a_folder_of_an_older_version_still_loads(folder: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (older / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes())
    (older / TIMM_FILE).write_text(CONFIG.model_dump_json(exclude={"classifier"}))
    write_manifest(older)
    image = grey(3)
    expected = medfathom.load(folder).predict(image).probabilities
    assert np.array_equal(medfathom.load(older).predict(image).probabilities, expected)
    found = locate_weights("tf_efficientnet_lite0", f"export:{older}")
    assert (found.part, found.normalization) == ("backbone.", ((0.5, 0.4, 0.3), (0.5, 0.5, 0.5)))


@pytest.mark.large
def test_public_names_are_there_and_light() -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    code = (
        "import sys, medfathom\n"
        "assert not {'torch', 'pandas', 'optuna', 'ray'} & set(sys.modules)\n"
        "assert set(medfathom.__all__) <= set(dir(medfathom))\n"
        "for name in medfathom.__all__: assert getattr(medfathom, name).__doc__, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medfathom.nothing  # noqa: B018


def test_a_class_called_case_has_a_column_of_its_own(tmp_path: Path) -> None:
    """As "case" and "control": its probability must not replace the case's name and shift the other cells."""
    found = Predictions(["a"], ["control", "case"], np.array([[0.2, 0.8]]), ["case"], n_images=[3])
    write_csv(found, tmp_path / "cases.csv")
    text = (tmp_path / "cases.csv").read_text()
    assert text == "case,images,predicted,control,probability:case\na,3,case,0.2,0.8\n"
    assert found.rows()[0]["case"] == "a"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(predictions_text(found))
    assert "0.2000            0.8000" in console.export_text()

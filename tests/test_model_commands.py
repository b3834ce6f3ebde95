"""Architectures and inits as typed: what is listed, what a definition's bad values are answered with."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from medfathom import cli
from medfathom.models.catalog import lookup
from medfathom.models.facts import shipped

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medfathom(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command where the hub is out of reach and nothing is cached: exit code, output, errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(workdir / "cache"))
    for variable in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medfathom", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return typed


def trap(folder: str) -> None:
    Path(folder).mkdir()


class Bomb:
    """Unpickled, it leaves a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return trap, ("trace",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of ResNet-10-T: right, lacking its last stage, bombs; and what is none."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    state = timm.create_model("resnet10t").state_dict()
    save_file(state, folder / "own.safetensors")
    torch.save({n: t for n, t in state.items() if not n.startswith("layer4")}, folder / "part.pth")
    torch.save({"state_dict": Bomb()}, folder / "bomb.pth")
    (folder / "pickle.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}, 2))
    (folder / "text.pth").write_text("weights, honestly")
    return folder


@pytest.fixture
def files(made: Path, workdir: Path) -> None:
    """The checkpoints in the working folder."""
    for file in made.iterdir():
        (workdir / file.name).symlink_to(file)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", "resnet5", "unknown architecture 'resnet5': did you mean 'resnet50'"),
        ("architecture", "resnet50.a1_in1k", "architecture resnet50, init imagenet:a1_in1k"),
        ("architecture", "inception_v3", "cannot take 64 px images: it takes any size from 75 px on"),
        ("unfreeze_depth", 6, "unfreeze_depth = 6: input should be less than or equal to 5"),
        ("unfreeze_depth", -1, "unfreeze_depth = -1: input should be greater than or equal to 0"),
        ("init", "imagnet", "init 'imagnet': no such init; did you mean 'imagenet'"),
        ("init", "imagenet:a9_in1k", "resnet10t has no pretrained weights 'a9_in1k'; did you mean 'c3_in1k'"),
        ("init", "imagenet-stats", "no weights of resnet10t.c3_in1k in the caches"),
        ("init", "file:nowhere.pth", "no such file: nowhere.pth"),
        (
            "init",
            "file:part.pth",
            "part.pth is no checkpoint of resnet10t: layer4.0.conv1.weight is missing in the file, but has "
            "shape (512, 256, 3, 3) in the network (55 of 70 tensors matched; 15 missing",
        ),
        ("init", "file:bomb.pth", "bomb.pth: refused, because it holds more than tensors"),
        ("init", "file:pickle.pth", "pickle.pth: refused, because it holds more than tensors"),
        ("init", "file:text.pth", "text.pth: cannot be read as weights"),
        ("head_pooling", "mean", "head_pooling = 'mean': input should be 'avg', 'max' or 'avgmax'"),
        ("head_dropout", 1.0, "head_dropout = 1.0: input should be less than 1"),
        ("head_hidden", -8, "head_hidden = -8: input should be greater than or equal to 0"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_2(
    medfathom: Typed, workdir: Path, key: str, value: object, message: str
) -> None:
    before = sorted(workdir.iterdir())
    values = {"architecture": "resnet10t", "init": "random", "unfreeze_depth": 1, key: value}
    sets = [f"--set=space.{k}={{value={json.dumps(v)}}}" for k, v in values.items()]
    code, out, err = medfathom("validate", "demo", *sets)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("medfathom: ")
    assert err.count("\n") == 1
    assert sorted(workdir.iterdir()) == before


@pytest.mark.usefixtures("files")
def test_a_file_is_reported_with_what_it_matches(medfathom: Typed) -> None:
    sets = ["--set=space.architecture={value='resnet10t'}", "--set=space.init={value='file:own.safetensors'}"]
    code, out, err = medfathom("validate", "demo", *sets)
    assert (code, err) == (0, "")
    assert "own.safetensors for resnet10t: 70 of 70 tensors matched; 2 unexpected: fc.bias, fc.weight" in out


def test_all_networks_without_weights_are_named_at_once(medfathom: Typed) -> None:
    """What a user of the paper's design meets who has no network and no weights."""
    code, _, err = medfathom("validate", "paper_cxr")
    assert code == 2
    assert err.count("\n") == 1
    for word in ("no weights of vgg16.tv_in1k", "`hf download timm/vgg16.tv_in1k`", "training.weights_dir"):
        assert word in err
    names = "vgg19, resnet50, resnet101, resnet152, inception_v3, legacy_xception, densenet121, densenet169"
    assert f"this init fails also for {names}, densenet201" in err


def test_unknown_keys_of_training_are_refused(medfathom: Typed) -> None:
    code, _, err = medfathom("validate", "demo", "--set", "training.grey=mean")
    assert code == 2
    assert "training.grey: input should be 'repeat' or 'sum', but got 'mean'" in err
    code, _, err = medfathom("validate", "demo", "--set", "training.weights_dir=nowhere")
    assert code == 2
    assert "training.weights_dir = 'nowhere' is no folder" in err


# medfathom list architectures


def listed(medfathom: Typed, *arguments: str) -> list[dict[str, object]]:
    code, out, _ = medfathom("list", "architectures", *arguments, "--json")
    assert code == 0
    rows: list[dict[str, object]] = json.loads(out)
    return rows


def test_the_list_says_all_that_the_catalog_knows(medfathom: Typed) -> None:
    rows = listed(medfathom)
    assert len(rows) == len(shipped())
    known = {"name", "family", "n_params", "depth", "macs", "native_size", "pretrained_tags"}
    assert all(known <= set(row) for row in rows)


@pytest.mark.parametrize("column", ["name", "family", "n_params", "depth", "macs"])
def test_the_list_is_sorted_by_any_column_either_way(medfathom: Typed, column: str) -> None:
    up = [row[column] for row in listed(medfathom, "--sort", column)]
    down = [row[column] for row in listed(medfathom, "--sort", column, "--descending")]
    assert up == sorted(up) == down[::-1]  # type: ignore[type-var]


def test_the_list_is_filtered_by_name_family_and_size(medfathom: Typed) -> None:
    assert {row["family"] for row in listed(medfathom, "--family", "resnet")} == {"resnet"}
    small = [row["name"] for row in listed(medfathom, "densenet", "--max-params", "15")]
    assert small == ["densenet121", "densenet169"]


def test_an_architecture_outside_the_catalog_is_listed_by_its_name(medfathom: Typed) -> None:
    (row,) = listed(medfathom, "resnet18d")
    assert (row["n_params"], row["depth"]) == (11_708_744, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet5x"], "unknown architecture 'resnet5x': did you mean"),
        (["--family", "resne"], "--family resne: not in the catalog; did you mean 'resnet'"),
        (["vgg", "--max-params", "1"], "matches the pattern vgg, --max-params 1.0; leave one of these out"),
        (["--sort", "size"], "--sort size: no such column"),
    ],
)
def test_a_filter_that_nothing_passes_is_explained(
    medfathom: Typed, arguments: list[str], message: str
) -> None:
    code, out, err = medfathom("list", "architectures", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_numbers_and_names_are_whole_in_a_narrow_window(
    medfathom: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = medfathom("list", "architectures")
    facts = lookup("swin_base_patch4_window7_224")
    line = next(line for line in out.splitlines() if line.startswith(facts.name))
    sizes = [f"{facts.n_params / 1e6:.1f}M", str(facts.depth), f"{facts.macs / 1e9:.2f}G"]
    assert line.split()[:6] == [facts.name, facts.family, *sizes, "224"]
    assert max(map(len, out.splitlines())) <= 80

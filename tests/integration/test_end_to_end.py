"""A phantom whose best setting is known: found, confirmed, reported, exported, and predicted with."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from PIL import Image

import medfathom
from medfathom.answer import analyze_all
from medfathom.confirm import confirm_study
from medfathom.confirmation.efficiency import EFFICIENCY
from medfathom.confirmation.find import find_confirmation, predictions_file
from medfathom.confirmation.openings import OPENINGS
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.dashboard.server import make_dashboard
from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition
from medfathom.errors import ExportedModelError, InputError, StorageError
from medfathom.export import export_model
from medfathom.metrics.auc import roc_auc_score
from medfathom.models.build import build_network
from medfathom.models.folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.models.weights.read import hash_of
from medfathom.study.connection import default_url
from medfathom.study.ids import study_id_of
from medfathom.study.read import read_study as load

DEFINITION = """
version = 1
name = "known"
question = "Are pretrained features better than none?"
scheduler = "none"
sampler = "grid"
goal = "compare"

[dataset]
source = "phantom-oct"
modality = "OCT"
classes = ["none", "drusen"]
image_size = 64
n_train = 160
n_val = 64
n_test = 64
patients_train = 80
patients_val = 32
patients_test = 32
difficulty = 0.2

[space.architecture]
role = "scientific"
choices = ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]

[space.init]
role = "scientific"
choices = ["imagenet", "random"]

[space.unfreeze_depth]
value = 0

[space.learning_rate]
value = 5e-3

[[space.exclude]]
architecture = "tf_efficientnet_lite1"
init = "random"

[budget]
trials = 3
epochs = 6
"""


def load_study(name: str) -> Any:
    return load(default_url(), name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Iterator[Path]:
    """A searched, confirmed and exported study in a working folder."""
    folder = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MEDFATHOM_STORAGE", raising=False)
        Path("known.toml").write_text(DEFINITION)
        outcome = medfathom.run_study("known.toml")
        assert outcome.counts.complete == 3
        confirm_study("known", seeds=2)
        export_model("known", Path("model"))
        yield folder


@pytest.fixture(scope="module")
def summary(place: Path) -> ConfirmationSummary:
    study = load_study("known")
    return summarize_confirmation(study, find_confirmation(study))


def test_split() -> Any:
    return open_test(prepare(load_definition("known.toml").dataset, Path("storage/cache")))


test_split.__test__ = False  # type: ignore[attr-defined]


def test_search_and_confirmation_agree_on_the_known_best(summary: ConfirmationSummary) -> None:
    assert [result.init for result in summary.strata] == ["imagenet", "imagenet", "random"]
    best = summary.strata[0]
    assert best.test_auc > 0.8
    assert best.test_auc > summary.strata[-1].test_auc + 0.1
    assert best.ci[0] <= best.sampling_ci[0] <= best.test_auc <= best.sampling_ci[1] <= best.ci[1]
    for result in summary.strata:
        assert [model.seed for model in result.models] == [0, 1]
        assert result.optimism == pytest.approx(result.search_auc - result.test_auc, abs=1e-12)
        assert result.seed_sd is not None
    assert summary.missing == summary.failures == ()
    assert summary.n_test == 64


def test_the_test_split_is_opened_once_and_remembered(summary: ConfirmationSummary) -> None:
    study = load_study("known")
    opening = study.user_attrs[OPENINGS][0]
    assert len(study.user_attrs[OPENINGS]) == 1
    assert opening["n_images"] == 64
    assert len(opening["models"]) == 6
    before = find_confirmation(study)
    assert before is not None
    again = confirm_study("known", seeds=2)
    after = find_confirmation(study)
    assert after is not None
    assert len(after.get_trials()) == len(before.get_trials()) == 6
    assert again.summary.strata == summary.strata
    assert load_study("known").user_attrs[OPENINGS] == [opening]


def test_seeds_are_shared_and_no_search_trial_had_them() -> None:
    study = load_study("known")
    trials = find_confirmation(study).get_trials()  # type: ignore[union-attr]
    seeds = {t.user_attrs["seed"] for t in trials}
    assert len(seeds) == 2
    assert not seeds & {t.user_attrs["seed"] for t in study.get_trials()}
    assert all(list(t.intermediate_values) == [1, 2, 3, 4, 5, 6] for t in trials)


def test_predictions_are_kept_with_names_and_groups(summary: ConfirmationSummary) -> None:
    test = test_split()
    for result in summary.strata:
        for model in result.models:
            kept = read_predictions(predictions_file(model.folder, "test"))
            assert kept.names == list(test.names)
            assert kept.groups is not None
            assert list(kept.groups) == list(test.groups)
            assert kept.positive[:, 0].tolist() == (test.labels == 1).tolist()
            assert roc_auc_score(kept.positive, kept.probabilities)[0] == pytest.approx(
                model.test_auc, abs=1e-12
            )


def test_the_export_predicts_what_confirm_did(summary: ConfirmationSummary, tmp_path: Path) -> None:
    test = test_split()
    model = medfathom.load("model")
    chosen = max(summary.strata[0].models, key=lambda m: m.val_auc)
    kept = read_predictions(predictions_file(chosen.folder, "test"))
    found = model.predict(np.asarray(test.images))
    assert found.class_names == ["none", "drusen"]
    assert np.abs(found.probabilities[:, 1:] - kept.probabilities).max() < 1e-6
    auc = roc_auc_score(test.labels == 1, found.probabilities[:, 1])[0]
    assert auc == pytest.approx(chosen.test_auc, abs=1e-6)

    for k, image in enumerate(test.images):
        Image.fromarray(image[:, :, 0]).save(tmp_path / f"{k:03d}.png")
    files = model.predict(tmp_path)
    assert [Path(name).stem for name in files.names] == [f"{k:03d}" for k in range(64)]
    assert files.probabilities == pytest.approx(found.probabilities, abs=1e-6)


def test_timm_alone_gives_the_same_logits() -> None:
    import timm  # noqa: PLC0415
    import torch  # noqa: PLC0415

    test, model = test_split(), medfathom.load("model")
    network = timm.create_model("local-dir:model", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(network)
    images = torch.from_numpy(np.asarray(test.images).transpose(0, 3, 1, 2) / np.float32(255))
    mean, std = (torch.tensor(data[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        logits = network((images - mean) / std).numpy()
    ours = model.logits(np.asarray(test.images))
    assert np.abs(logits - ours).max() < 1e-4 * max(1, np.abs(ours).max())
    assert data["input_size"][1:] == (model.config.image_size, model.config.image_size)
    assert network.pretrained_cfg["label_names"] == ["none", "drusen"]


def test_onnx_agrees() -> None:
    test, model = test_split(), medfathom.load("model")
    images = np.asarray(test.images).transpose(0, 3, 1, 2).astype(np.float32) / 255
    session = onnxruntime.InferenceSession("model/model.onnx", providers=["CPUExecutionProvider"])
    logits, values = session.run(["logits", "probabilities"], {"images": images})
    assert np.abs(values - model.predict(np.asarray(test.images)).probabilities).max() < 1e-4
    assert np.abs(logits - model.logits(np.asarray(test.images))).max() < 1e-4 * max(1, np.abs(logits).max())


def test_a_changed_folder_is_refused(tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    for name in (CONFIG_FILE, WEIGHTS_FILE):
        folder = tmp_path / name
        shutil.copytree("model", folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(ExportedModelError, match=r"changed since the export|medfathom\.json:"):
            medfathom.load(folder)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ExportedModelError, match="missing"):
        medfathom.load(folder)


def test_which_model_is_exported(summary: ConfirmationSummary, tmp_path: Path) -> None:
    smallest = export_model("known", tmp_path / "a", trial="smallest-within", within=1.0, onnx=False)
    assert smallest.configuration.n_params == min(result.n_params for result in summary.strata)
    number = summary.strata[-1].search_trial
    exported = export_model("known", tmp_path / "b", trial=str(number), onnx=False)
    assert exported.configuration.search_trial == number
    with pytest.raises(StorageError, match="no trial 99"):
        export_model("known", tmp_path / "c", trial="99", onnx=False)
    with pytest.raises(InputError, match="expected best"):
        export_model("known", tmp_path / "c", trial="bestest", onnx=False)
    with pytest.raises(InputError, match="already exists"):
        export_model("known", tmp_path / "a", onnx=False)
    assert not (tmp_path / "c").exists()


def test_the_card_says_what_matters(summary: ConfirmationSummary) -> None:
    card = Path("model/README.md").read_text()
    assert f"mean test AUC {summary.strata[0].test_auc:.4f}" in card
    assert "opened once" in card
    assert "Not a medical device" in card
    assert "Intervals treat patients" in card
    assert "{" not in card
    assert str(Path.cwd()) not in card + Path("model/metrics.json").read_text()


def test_an_exported_backbone_is_an_init(place: Path) -> None:
    exported = medfathom.load("model")
    config = exported.config
    options = {"num_outputs": 3, "unfreeze_depth": 5, "image_size": 64, "in_channels": 1, "seed": 0}
    network = build_network(config.architecture, init="export:model", **options)  # type: ignore[arg-type]
    assert network.init_source.startswith("export model (known, OCT); ")
    assert network.match is not None
    assert (network.match.missing, network.match.mismatched) == ([], [])
    theirs = exported.module.network
    assert network.weights_hash == hash_of(theirs.backbone.state_dict())
    assert network.normalization == theirs.normalization
    assert network.head[-1].out_features == 3  # type: ignore[index]


def test_notes_pictures_and_costs_are_in_the_storage(summary: ConfirmationSummary) -> None:
    from optuna_dashboard import get_note  # noqa: PLC0415

    study = load_study("known")
    storage = study._storage
    for trial in study.get_trials():
        assert get_all_artifact_meta(trial, storage=storage) == []
        note = get_note(optuna.trial.Trial(study, trial._trial_id))
        assert f"Validation AUC {trial.value:.4f}" in note
        assert "**Diagnosis.**" in note
    assert "Are pretrained features better" in get_note(study)
    assert {m.filename for m in get_all_artifact_meta(study)} == {"efficiency.png"}
    latencies = study.user_attrs[EFFICIENCY]["latency_ms"]
    assert set(latencies) == {result.architecture for result in summary.strata}
    assert min(latencies.values()) > 0
    confirmation = find_confirmation(study)
    assert confirmation is not None
    first = confirmation.get_trials()[0]
    names = {m.filename for m in get_all_artifact_meta(first, storage=storage)}
    assert {"roc.png", "precision_recall.png", "confusion.png", "calibration.png", "gradcam.png"} <= names


def test_the_report_says_it(summary: ConfirmationSummary, tmp_path: Path, browser_page: Any) -> None:
    analysis, folder = analyze_all(["known"], [], out=tmp_path / "report")
    content = analysis.to_dict()
    assert content["exploratory"] is False
    benefit = next(b for b in content["pretraining_benefit"] if b["architecture"] == "tf_efficientnet_lite0")
    assert benefit["benefit"] > 0.1
    pairs = content["model_comparison"][0]["pairs"]
    assert len(pairs) == 3
    assert content["model_comparison"][0]["groups"] is True
    errors: list[str] = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    browser_page.goto((folder / "report.html").as_uri())
    assert browser_page.get_by_text("Confirmed models").is_visible()
    assert browser_page.get_by_text("Models compared on the same test split").is_visible()
    assert browser_page.locator("#exploratory").count() == 0
    shown = browser_page.locator("#confirmed-pictures img")
    assert shown.count() >= 5
    assert shown.evaluate_all("images => images.every(i => i.complete && i.naturalWidth > 100)")
    assert errors == []


@contextmanager
def served() -> Iterator[int]:
    with make_dashboard(default_url(), 0, writable=False) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_the_dashboard_shows_note_curve_and_picture(
    summary: dict[str, Any], place: Path, browser_page: Any
) -> None:
    study = load_study("known")
    confirmation = find_confirmation(study)
    assert confirmation is not None
    with served() as port:
        errors: list[str] = []
        browser_page.on("pageerror", lambda error: errors.append(str(error)))

        def open_first_trial(of: Any) -> None:
            browser_page.goto(f"http://127.0.0.1:{port}/dashboard/studies/{study_id_of(of)}/trials")
            browser_page.get_by_text("Trial 0").first.click()
            browser_page.get_by_text("Diagnosis.").first.wait_for(timeout=90_000)

        open_first_trial(study)
        browser_page.get_by_text("Intermediate").first.wait_for(timeout=30_000)
        open_first_trial(confirmation)
        browser_page.locator("img[src*='/artifacts/']").first.wait_for(timeout=30_000)
        browser_page.wait_for_function("() => [...document.images].some(i => i.naturalWidth > 400)")
        assert errors == []

"""The report: files, sizes, and the page in a real browser at desk and phone widths."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_studies import PAPER, analyze, study, unheard_of
from medfathom.analysis import Analysis, write_report
from medfathom.analysis.report.drawing import INK, ON_DARK, SOFT
from medfathom.analysis.report.figures import Figures, draw_all
from medfathom.analysis.report.levels import on_the_front
from medfathom.analysis.report.overview import answers, overview
from medfathom.analysis.report.report import page
from medfathom.analysis.report.settings_map import settings_map
from medfathom.analysis.told import CostOfTrial, FailureSignature, ToldOfStudy, TunedStratum

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """
<script>
addEventListener("load", () => {
document.querySelectorAll("details").forEach(d => d.open = true);
const table = [...document.querySelectorAll("table.sortable")].find(t => t.textContent.includes("benefit"));
const heading = table.querySelectorAll("th")[4];
heading.querySelector("button").click();
const column = () => [...table.tBodies[0].rows].map(r => r.cells[4].textContent);
const rising = column(); heading.querySelector("button").click(); const falling = column();
const out = document.createElement("pre"); out.id = "probe";
out.textContent = JSON.stringify({
  scroll: document.documentElement.scrollWidth, width: innerWidth, rising, falling,
  sort: heading.getAttribute("aria-sort"),
  pictures: [...document.querySelectorAll("figure svg")]
    .map(p => p.getBoundingClientRect()).map(r => [r.width, r.height]),
  first: document.body.innerText.trim().slice(0, 400)});
document.body.append(out);
});
</script>
"""


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    names = {"chest": "CXR", "lung": "CXR", "eye": "OCT"}
    frame = study(datasets=names, inits=("imagenet", "random"), noise=0.01)
    return analyze(frame.assign(macs=1e9, train_auc=frame["auc"] + 0.01), exploratory=True)


@pytest.fixture(scope="module")
def folder(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    write_report(analysis, out)
    return out


def test_files(folder: Path, analysis: Analysis) -> None:
    assert json.loads((folder / "analysis.json").read_text()) == analysis.to_dict()
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + len(analysis.rows)
    for figure in (
        "overview",
        "CXR_log10_params",
        "CXR_log2_depth",
        "CXR_pareto",
        "CXR_settings",
        "OCT_pareto",
        "pretraining",
        "unfreezing",
        "ranking",
    ):
        assert (folder / f"{figure}.svg").read_text().lstrip().startswith("<?xml")
        assert len(pd.read_csv(folder / f"{figure}.csv")) >= 2
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_page_stands_alone_and_is_small(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert len(page) < 3_000_000
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script src" not in page
    assert not re.search(r"\bNaN\b|\bnan\b|\bundefined\b", page.replace("Number.isNaN", ""))


def test_not_significant_is_never_no_effect(folder: Path) -> None:
    page = (folder / "report.html").read_text().lower()
    # Of an inconclusive slope, the one sentence that may name it: it names the effect that may be there too.
    page = page.replace("the data fit both no effect and an effect large enough to matter", "")
    for phrase in ("no effect", "no association", "not significant", "no difference"):
        assert phrase not in page


def test_exploratory_is_written_on_it(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert 'id="exploratory"' in page
    assert page.count("(exploratory)") >= 3


def test_the_gap_names_the_split_it_was_measured_on(folder: Path, tmp_path: Path) -> None:
    assert "Training AUC minus validation AUC" in (folder / "report.html").read_text()
    frame = study(settings=1, seeds=1)
    write_report(analyze(frame.assign(train_auc=frame["auc"] + 0.01)), tmp_path)
    assert "Training AUC minus test AUC" in (tmp_path / "report.html").read_text()


def test_what_a_predictor_explains_by_itself_and_beyond_the_other() -> None:
    """Two sizes that predict nearly alike: each explains nearly all, and hardly more than the other."""
    frame = study(slope=0.05, noise=0.0005)
    by_size = frame["n_params"].rank(method="dense")
    page_ = page(analyze(unheard_of(frame.assign(depth=(2 ** (3 + by_size / 4)).round()))), Figures())
    found = re.search(
        r"explained by parameter count alone: (\d+) %; by depth alone: (\d+) %; by both: (\d+) % "
        r"\(\d+ % adjusted for two predictors\)\. "
        r"With depth known, parameter count adds (\d+) %",
        page_,
    )
    assert found
    by_itself, depth, both, beyond = map(int, found.groups())
    assert by_itself > 95
    assert both >= max(by_itself, depth)
    assert beyond == pytest.approx(both - depth, abs=1)
    assert "alone explains" not in page_


def test_names_from_a_table_are_no_markup(tmp_path: Path) -> None:
    frame = study().replace({"dataset": {"chest": "<script>alert(1)</script>"}})
    write_report(analyze(frame), tmp_path)
    assert "<script>alert(1)" not in (tmp_path / "report.html").read_text()


def test_small_tables_have_a_report_too(tmp_path: Path) -> None:
    frame = study(settings=1, seeds=1)
    for names in (["vgg16"], ["vgg16", "resnet50"], ["vgg16", "resnet50", "densenet121"]):
        write_report(analyze(frame[frame["architecture"].isin(names)]), tmp_path / str(len(names)))
        said = "inconclusive" if len(names) > 1 else "Not available: no two architectures"
        assert said in (tmp_path / str(len(names)) / "report.html").read_text()


@pytest.mark.parametrize(("count", "open_ended"), [(3, True), (10, False)])
def test_an_effect_without_an_interval_does_not_look_exact(count: int, open_ended: bool) -> None:
    frame = study(settings=1, seeds=1)
    found = analyze(frame[frame["architecture"].isin(sorted(PAPER)[:count])])
    drawing = overview(found)
    assert drawing is not None
    assert ("Hollow diamond" in drawing.caption) == open_ended
    known = [answer.effect_ci95 != (None, None) for _, answer in answers(found)]
    assert all(known) != open_ended
    assert len(re.findall("fill: #fefefe; stroke: #", drawing.svg)) == (len(known) if open_ended else 0)
    slope = draw_all(found).modalities["CXR"]["CXR_log10_params"]
    assert ("No band: its 95 % interval is open." in slope.caption) == open_ended


def figures_of(text: str) -> dict[str, list[str]]:
    """Heading of each section of the page -> the files of its figures."""
    return {
        heading: re.findall(r'<a href="(.*?\.svg)">', body)
        for heading, body in re.findall(r"<h2>(.*?)</h2>(.*?)</section>", text, re.S)
    }


@pytest.mark.large
def test_every_modality_shows_its_own_figures(tmp_path: Path) -> None:
    """One name begins like another, two are one once their signs are taken out."""
    names = ["CXR", "CXR lateral", "OCT/A", "OCT A"]
    frame = study(settings=1, seeds=1, datasets={f"d{i}": name for i, name in enumerate(names)}, noise=0.01)
    write_report(analyze(frame[frame["architecture"].str.contains("1")], draws=100), tmp_path)
    text = (tmp_path / "report.html").read_text()
    shown = figures_of(text)
    assert [len(shown[name]) for name in names] == [3] * 4
    written = [file for name in names for file in shown[name]]
    assert len({file.casefold() for file in written}) == 12
    assert len({(tmp_path / file).read_text() for file in written}) == 12
    for name in names:
        captions = re.findall(r"<figcaption>(.*?) <a", text.partition(f"<h2>{name}</h2>")[2])[:3]
        assert all(caption.startswith(f"{name}: ") for caption in captions)


def test_leakage_and_the_positive_class_are_told_on_the_first_screen(analysis: Analysis) -> None:
    told = ToldOfStudy("demo", "Leakage: 3 images have exact copies in several splits", "pneumonia")
    head = page(replace(analysis, studies=[told]), Figures()).partition("</header>")[0]
    assert "demo: Leakage: 3 images have exact copies in several splits." in head
    assert "Positive class of demo: pneumonia." in head
    assert "leakage" not in page(analysis, Figures()).partition("</header>")[0].partition("<body>")[2].lower()


def test_an_under_tuned_stratum_is_seen(analysis: Analysis) -> None:
    tuned = [
        TunedStratum("lite0", 16, 4, 0.91, 0.9, 0.92, settled=True),
        TunedStratum("lite1", 8, 4, 0.87, None, None, settled=False),
    ]
    told = ToldOfStudy("oct", tuned=tuned, tuning=["1 of 2 strata may be under-tuned (lite1)."])
    text = page(replace(analysis, studies=[told]), Figures()).partition("How well oct is tuned")[2]
    section = text.partition("</section>")[0]
    for part in (
        "expected best of 4",
        "0.910",
        "0.9000 to 0.9200",
        "settled",
        "open",
        "1 of 2 strata may be",
    ):
        assert part in section
    assert "is tuned" not in page(analysis, Figures())


def test_a_front_of_trials_is_drawn_where_it_was_searched_for(analysis: Analysis, tmp_path: Path) -> None:
    trials = [
        CostOfTrial(3, "lite0", 0.80, 0.75, 0.85, 2e6, on_front=True),
        CostOfTrial(1, "lite1", 0.90, 0.86, 0.93, 4e7, on_front=True),
        CostOfTrial(2, "lite2", 0.78, None, None, 3e6, on_front=False),
    ]
    told = ToldOfStudy("oct", front="AUC against parameters: …", cost="parameters", costs=trials)
    write_report(replace(analysis, studies=[told, ToldOfStudy("one")]), tmp_path)
    marks = re.findall(r"<title>trial (\d): AUC ([\d.]+)", (tmp_path / "front_oct.svg").read_text())
    assert sorted(marks) == [("1", "0.9000"), ("2", "0.7800"), ("3", "0.8000")]
    data = pd.read_csv(tmp_path / "front_oct.csv").set_index("number")
    assert data["on_front"].to_dict() == {3: True, 2: False, 1: True}
    section = (tmp_path / "report.html").read_text().partition("AUC and cost in oct")[2]
    assert "the 2 trials of the front" in section.partition("</section>")[0]
    assert not (tmp_path / "front_one.svg").exists()


def test_failures_are_told_by_count_and_by_stratum(analysis: Analysis) -> None:
    strata = {"init=random": (3, 4), "init=imagenet": (1, 4)}
    told = ToldOfStudy("oct", failures=[FailureSignature("overfitting", 4, strata)], diagnosed=8)
    text = page(replace(analysis, studies=[told]), Figures()).partition("How the trials of oct fail")[2]
    section = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text.partition("</section>")[0]))
    assert "Overfitting: 4 of the 8 search trials of oct (50%); most often in random (3 of 4) and" in section
    assert "stratum trials overfitting random 4 3 imagenet 4 1" in section
    assert "No signs of failure in the 5 search trials" in page(
        replace(analysis, studies=[ToldOfStudy("oct", diagnosed=5)]), Figures()
    )


def test_every_mark_says_what_it_is(folder: Path, analysis: Analysis) -> None:
    """Each architecture's point has a name to hover, each figure an alternative text with its numbers."""
    picture = (folder / "CXR_log10_params.svg").read_text()
    told = re.findall(r'<g class="told"><title>(.*?)</title>', picture)
    assert sorted(text.split(" (")[0] for text in told) == sorted(PAPER)
    auc = {text.split(" (")[0]: float(re.search(r"AUC ([\d.]+)", text)[1]) for text in told}
    data = pd.read_csv(folder / "CXR_log10_params.csv").set_index("architecture")["auc"]
    assert all(abs(data[name] - value) < 1e-4 for name, value in auc.items())
    for file in folder.glob("*.svg"):
        assert re.search(r'<svg role="img" aria-label=".{60,}?"', file.read_text())
    whole = analysis.modalities["CXR"].predictors["log10_params"]
    assert f"{whole.effect:+.3f}".replace("-", "−") in (folder / "overview.svg").read_text()


def test_the_page_follows_a_dark_screen(folder: Path) -> None:
    """No colour of a figure that would vanish on dark paper is fixed in the page."""
    text = (folder / "report.html").read_text()
    pictures = re.findall(r'<svg role="img".*?</svg>', text, re.S)
    assert len(pictures) >= 12
    assert not [p for p in pictures if re.search(f"{INK}|{SOFT}|#000000", p)]
    assert f"--c0: {INK}" in text
    assert f"--c0: {ON_DARK[INK]}" in text
    texts = re.findall(r"<text [^>]*>", text)
    assert texts
    assert all("fill:" in one for one in texts)  # without, it is black


@given(
    sizes=st.lists(st.sampled_from([1.0, 2.0, 3.0, np.nan]), min_size=1, max_size=8),
    aucs=st.lists(st.sampled_from([0.7, 0.8, 0.9]), min_size=8, max_size=8),
)
def test_the_front_is_what_nothing_beats(sizes: list[float], aucs: list[float]) -> None:
    networks = list(zip(sizes, aucs, strict=False))
    beaten = [
        any(s <= size and a >= auc and (s, a) != (size, auc) for s, a in networks) or not np.isfinite(size)
        for size, auc in networks
    ]
    found = on_the_front(pd.Series(sizes), pd.Series(aucs[: len(sizes)]))
    assert found.tolist() == [not each for each in beaten]


def test_a_map_never_averages_networks_or_settings() -> None:
    """Every AUC of the map is the mean over the seeds of one network in one cell."""
    frame = study(datasets={"chest": "CXR", "lung": "CXR"}, inits=("imagenet", "random"), noise=0.01)
    drawn = settings_map("CXR", frame)
    keys = ["architecture", "dataset", "init", "unfreeze_depth"]
    expected = frame.groupby(keys)["auc"].mean()
    assert len(drawn.data) == len(expected)
    assert drawn.data.set_index(keys)["auc"].sort_index().to_numpy() == pytest.approx(expected.to_numpy())
    best = frame.groupby(keys)["auc"].mean().unstack("architecture").idxmax(axis=1)
    assert f"chest imagenet 0: {best['chest', 'imagenet', 0]}" in drawn.svg


def test_writing_again_replaces(folder: Path, analysis: Analysis) -> None:
    before = (folder / "report.html").read_bytes()
    write_report(analysis, folder)
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian package chromium)")
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(folder: Path, tmp_path: Path, width: int) -> None:
    """Opens from disk, all pictures shown, nothing wider than the window, tables sort both ways."""
    page = (folder / "report.html").read_text().replace("</body>", f"{PROBE}</body>")
    path = tmp_path / "probe.html"
    path.write_text(page)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=4000 --dump-dom"
    )
    command = [
        str(CHROMIUM),
        *flags.split(),
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    dom = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    found = json.loads(
        re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)[1]
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&amp;", "&")
    )
    assert len(found["pictures"]) >= 12
    assert all(across > 200 and down > 60 for across, down in found["pictures"])
    assert found["scroll"] <= found["width"]
    numbers = [float(text.replace("−", "-")) for text in found["rising"]]
    assert numbers == sorted(numbers)
    assert found["falling"] == found["rising"][::-1]
    assert found["sort"] == "descending"
    assert re.match(
        r"Does network size predict AUC\?\s+CXR: (Not known|AUC|Parameter count|Depth)", found["first"]
    )
    assert np.isfinite(numbers).all()

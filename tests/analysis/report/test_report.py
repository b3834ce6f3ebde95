"""The report: files, sizes, and the page in a real browser at desk and phone widths."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from made_studies import analyze, study, unheard_of
from medfathom.analysis import Analysis, write_report
from medfathom.analysis.report.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """
<script>
addEventListener("load", () => {
document.querySelectorAll("details").forEach(d => d.open = true);
const table = document.querySelector("table.sortable"), heading = table.querySelectorAll("th")[2];
heading.querySelector("button").click();
const column = () => [...table.tBodies[0].rows].map(r => r.cells[2].textContent);
const rising = column(); heading.querySelector("button").click(); const falling = column();
const out = document.createElement("pre"); out.id = "probe";
out.textContent = JSON.stringify({
  scroll: document.documentElement.scrollWidth, width: innerWidth, rising, falling,
  sort: heading.getAttribute("aria-sort"),
  broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length,
  images: document.images.length, first: document.body.innerText.trim().slice(0, 400)});
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
        "CXR_log10_params",
        "CXR_log2_depth",
        "CXR_forest",
        "CXR_settings",
        "OCT_forest",
        "ranking",
    ):
        assert (folder / f"{figure}.svg").read_text().lstrip().startswith("<?xml")
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_page_stands_alone_and_is_small(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert len(page) < 3_000_000
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script src" not in page
    assert not re.search(r"\bNaN\b|\bnan\b|\bundefined\b", re.sub(r"Number.isNaN|base64,[^\"]*", "", page))


def test_not_significant_is_never_no_effect(folder: Path) -> None:
    page = re.sub(r"base64,[^\"]*", "", (folder / "report.html").read_text()).lower()
    # Of an inconclusive slope, the one sentence that may name it: it names the effect that may be there too.
    page = page.replace("the data fit both no effect and an effect large enough to matter", "")
    for phrase in ("no effect", "no association", "not significant", "no difference"):
        assert phrase not in page


def test_exploratory_is_written_on_it(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert 'id="exploratory"' in page
    assert page.count("(exploratory)") >= 3


def test_the_gap_names_the_split_it_was_measured_on(folder: Path, tmp_path: Path) -> None:
    assert "Training AUC less validation AUC" in (folder / "report.html").read_text()
    frame = study(settings=1, seeds=1)
    write_report(analyze(frame.assign(train_auc=frame["auc"] + 0.01)), tmp_path)
    assert "Training AUC less test AUC" in (tmp_path / "report.html").read_text()


def test_what_a_predictor_explains_by_itself_and_beyond_the_other() -> None:
    """Two sizes that predict nearly alike: each explains nearly all, and hardly more than the other."""
    frame = study(slope=0.05, noise=0.0005)
    by_size = frame["n_params"].rank(method="dense")
    page_ = page(analyze(unheard_of(frame.assign(depth=(2 ** (3 + by_size / 4)).round()))), {})
    found = re.search(
        r"parameter count by itself explains (\d+) %, depth by itself (\d+) %, the two together (\d+) %\. "
        r"Beyond depth, parameter count explains (\d+) %",
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
        assert "inconclusive" in (tmp_path / str(len(names)) / "report.html").read_text()


def sections(text: str) -> dict[str, str]:
    """Heading of each section of the page -> the section."""
    found = {}
    for section in re.findall(r"<section>.*?</section>", text, re.S):
        heading = re.search(r"<h2>(.*?)</h2>", section)
        assert heading
        found[heading[1]] = section
    return found


@pytest.mark.large
def test_every_modality_shows_its_own_figures(tmp_path: Path) -> None:
    """One name begins like another, two are one once their signs are taken out, two are in other case."""
    names = ["CXR", "CXR lateral", "OCT/A", "OCT A", "oct a"]
    frame = study(settings=1, seeds=1, datasets={f"d{i}": name for i, name in enumerate(names)}, noise=0.01)
    write_report(analyze(frame[frame["architecture"].str.contains("1")], draws=100), tmp_path)
    shown = sections((tmp_path / "report.html").read_text())
    files = {name: re.findall(r'<a href="(.*?\.svg)">', shown[name]) for name in names}
    assert [len(own) for own in files.values()] == [4] * 5
    written = {file.casefold() for own in files.values() for file in own}
    assert len(written) == 20
    assert len({(tmp_path / file).read_text() for own in files.values() for file in own}) >= 15
    for name in names:
        captions = re.findall(r"<figcaption>(.*?) <a", shown[name])
        assert len(captions) == 4
        assert all(caption.startswith(f"{name}: ") for caption in captions)


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
    assert found["broken"] == 0
    assert found["images"] >= 9
    assert found["scroll"] <= found["width"]
    numbers = [float(text.replace("−", "-")) for text in found["rising"]]
    assert numbers == sorted(numbers)
    assert found["falling"] == found["rising"][::-1]
    assert found["sort"] == "descending"
    assert re.match(r"(inconclusive|increases|decreases|negligible)", found["first"], re.I)
    assert np.isfinite(numbers).all()

"""Whole slides: colours, places and scale as they were written; tissue; one row a slide where it counts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pydicom
import pytest
import tifffile
import tiffslide
from hypothesis import given
from hypothesis import strategies as st

from made_models import CONFIG
from making_slides import GLASS, TISSUE, aperio, dicom_slide, glass, hamamatsu, made_slide, mirax, pyramid
from medfathom.data import slides
from medfathom.data.images import UnreadableImageError
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import foresee, prepare
from medfathom.data.prepared import read_facts
from medfathom.data.pseudonyms import pseudonym
from medfathom.data.sizes import at_size, prepare_sizes
from medfathom.data.slides import Tile, Tiling, _shares, choose_tiles, read_slide, read_tile
from medfathom.data.sources.base import UnusableRowsError
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.exported.model import Model
from medfathom.exported.network import Deployed

Write = Callable[[Path, np.ndarray, float], Path]

WRITERS: dict[str, Write] = {
    "aperio": lambda folder, pixels, mpp: aperio(folder / "a.svs", pixels, mpp),
    "pyramid": lambda folder, pixels, mpp: pyramid(folder / "a.tif", pixels, mpp),
    "hamamatsu": lambda folder, pixels, mpp: hamamatsu(folder / "a.ndpi", pixels, mpp),
    "mirax": lambda folder, pixels, mpp: mirax(folder / "a.mrxs", pixels, mpp),
    "dicom": lambda folder, pixels, mpp: dicom_slide(folder, pixels, mpp)[1],
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Write:
    return WRITERS[request.param]


def tiling(mpp: float = 1.0, size: int = 64, n: int = 100, seed: int = 0, tissue: float = 0.5) -> Tiling:
    return Tiling(mpp, size, n, seed, tissue)


def tiles_of(path: Path, wanted: Tiling) -> list[Tile]:
    return choose_tiles(path, read_slide(path, wanted), wanted)


def coloured(seed: int = 3, side: int = 128, columns: int = 8, rows: int = 6) -> np.ndarray:
    """A slide of squares, each of a saturated colour of its own."""
    random = np.random.default_rng(seed)
    colours = random.integers(60, 220, (rows, columns, 3), dtype=np.uint8)
    colours[:, :, 1] //= 3
    return colours.repeat(side, axis=0).repeat(side, axis=1)


def test_tiles_have_the_colours_of_their_place(write: Write, tmp_path: Path) -> None:
    pixels = coloured()
    path = write(tmp_path, pixels, 0.5)
    found = tiles_of(path, tiling(tissue=0))
    assert [(tile.x, tile.y) for tile in found] == [
        (x, y) for y in range(0, 768, 128) for x in range(0, 1024, 128)
    ]
    for tile in found:
        shown, _ = read_tile(path, tile, 64)
        # Away from the borders, where squares mix. JPEG of quality 98 keeps flat colours within 2 levels.
        inner = shown[8:-8, 8:-8].astype(int)
        assert np.abs(inner - pixels[tile.y + 64, tile.x + 64].astype(int)).max() <= 3


@pytest.mark.parametrize("native", [0.25, 0.2528, 0.5])
def test_a_tile_has_the_scale_asked_for(write: Write, native: float, tmp_path: Path) -> None:
    pixels = made_slide(1024, 1024, (0, 0, 1024, 1024))
    wanted = tiling(mpp=0.6, size=160)
    side = 160 * 0.6 / native
    bar = round(60 / native)  # 60 microns
    left = round(side * 0.2)
    pixels[left : left + bar, left : left + bar] = (40, 20, 120)
    path = write(tmp_path, pixels, native)
    tile = tiles_of(path, wanted)[0]
    shown, _ = read_tile(path, tile, 160)
    dark = (shown[:, :, 0].astype(float) - TISSUE[0]) / (40 - TISSUE[0])
    across = dark[70].sum() * 0.6  # microns, with parts of pixels at its ends
    assert across == pytest.approx(bar * native, rel=0.01)
    assert np.average(np.arange(160) + 0.5, weights=dark[70].clip(0)) * 0.6 == pytest.approx(
        (left + bar / 2) * native, rel=0.01
    )


def test_tissue_is_found_and_glass_and_pen_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:1024, :1536]
    ellipse = ((x - 700) / 450) ** 2 + ((y - 500) / 300) ** 2 < 1
    pixels = glass(1536, 1024).astype(float)
    pixels[ellipse] = TISSUE
    pixels[:, 1400:1440] = 12  # a black pen's line
    pixels = (pixels + random.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
    path = aperio(tmp_path / "a.svs", pixels, 0.5)
    wanted = tiling(mpp=0.5, size=32, n=10_000)
    found = tiles_of(path, wanted)
    share = ellipse.reshape(32, 32, 48, 32).mean(axis=(1, 3))
    chosen = np.zeros_like(share, dtype=bool)
    chosen[[tile.y // 32 for tile in found], [tile.x // 32 for tile in found]] = True
    assert chosen[share > 0.6].all()
    assert not chosen[share < 0.4].any()


def test_a_slide_without_tissue_is_refused(write: Write, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noisy = (glass(1024, 768) + random.normal(0, 2, (768, 1024, 3))).clip(0, 255).astype(np.uint8)
    path = write(tmp_path, noisy, 0.5)
    with pytest.raises(UnreadableImageError, match=r"no tile with 50% tissue \(at most 0%\)"):
        tiles_of(path, tiling())


def test_the_choice_is_seeded_and_the_same_wherever_the_slide_lies(tmp_path: Path) -> None:
    here, there = (aperio(tmp_path / place / "a.svs", coloured(), 0.5) for place in ("x", "y"))
    every = tiles_of(here, tiling(tissue=0))
    some = tiles_of(here, tiling(n=10, tissue=0))
    assert len(some) == 10
    assert set(some) < set(every)
    assert some == sorted(some, key=lambda tile: (tile.y, tile.x)) == tiles_of(there, tiling(n=10, tissue=0))
    assert some != tiles_of(here, tiling(n=10, seed=1, tissue=0))


def test_a_level_is_shrunk_to_an_overview_strip_by_strip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = aperio(tmp_path / "a.svs", made_slide(), 0.5)
    whole = tiles_of(path, tiling(size=32))
    monkeypatch.setattr(slides, "OVERVIEW_PIXELS", 3000)
    monkeypatch.setattr(slides, "STRIP", 2000)
    assert tiles_of(path, tiling(size=32)) == whole
    monkeypatch.setattr(slides, "MAX_OVERVIEW", 1000)
    with pytest.raises(UnreadableImageError, match=r"no level is small enough for an overview .* 256x192"):
        tiles_of(path, tiling())


@pytest.mark.parametrize("write", [WRITERS["aperio"], WRITERS["pyramid"]])
def test_tiffslide_reads_the_same_where_openslide_does_not_load(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, coloured(), 0.5)
    wanted = tiling(mpp=1.3, n=5)
    found = tiles_of(path, wanted)
    shown = [read_tile(path, tile, 64)[0].astype(int) for tile in found]
    other = path.rename(tmp_path / f"other{path.suffix}")  # of which no thread keeps a slide open

    def without_openslide(name: str) -> Any:
        if name == "openslide":
            raise OSError("libopenslide.so.1: cannot open shared object file")
        return tiffslide

    monkeypatch.setattr(slides, "import_module", without_openslide)
    assert tiles_of(other, wanted) == found
    for tile, expected in zip(found, shown, strict=True):
        # tiffslide starts at a whole pixel of the level, OpenSlide at parts of one.
        assert np.abs(read_tile(other, tile, 64)[0].astype(int) - expected).mean() < 2
    (tmp_path / "a.dcm").write_bytes(bytes(200))
    with pytest.raises(
        UnreadableImageError, match=r"no whole slide that tiffslide \(OpenSlide does not load\)"
    ):
        read_slide(tmp_path / "a.dcm", wanted)


def test_the_extra_is_named_where_no_library_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> Any:
        raise ImportError(name)

    path = aperio(tmp_path / "a.svs", made_slide(), 0.5)
    monkeypatch.setattr(slides, "import_module", nothing)
    with pytest.raises(UnreadableImageError, match=r"a whole slide; install medfathom\[slides\] to read it"):
        read_slide(path, tiling())


@pytest.mark.parametrize(
    ("mpp", "wanted", "reason"),
    [
        (
            None,
            1.0,
            "its header says no microns per pixel; name them by dataset.mpp_column of a table",
        ),
        (25400 / 72, 1.0, "its header says 352.778 microns per pixel, which is no scan"),
        (0.5, 0.25, r"scanned at 0.5 microns per pixel, coarser than dataset.mpp = 0.25"),
    ],
)
def test_microns_per_pixel_that_cannot_be_used(
    mpp: float | None, wanted: float, reason: str, tmp_path: Path
) -> None:
    path = pyramid(tmp_path / "a.tif", made_slide(), mpp)
    with pytest.raises(UnreadableImageError, match=reason):
        read_slide(path, tiling(mpp=wanted))


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in {"a.svs": b"", "b.svs": b"II*\0" + bytes(50), "c.tif": bytes(500)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match="no whole slide that OpenSlide reads"):
            read_slide(tmp_path / name, tiling())
    path = aperio(tmp_path / "d.svs", made_slide(64, 64, (0, 0, 64, 64)), 0.5)
    with pytest.raises(UnreadableImageError, match="smaller than one tile"):
        tiles_of(path, tiling())


def test_what_was_not_scanned_is_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aperio(tmp_path / "a.svs", made_slide(1024, 768, (0, 0, 1024, 768)), 0.5)
    shown, _ = read_tile(path, Tile(960, 0, 128, 128), 64)
    assert np.abs(shown[:, :30].astype(int) - TISSUE).max() <= 3
    assert (shown[:, 34:] == 255).all()


KEYS = {"modality": "WSI", "image_size": 32, "unit": "slide", "mpp": 1.0}
PER_SPLIT = {"train": 3, "val": 2, "test": 2}


def slide_set(root: Path) -> Path:
    """Two classes of slides; slide k of a split has k + 2 tiles of tissue. Tiles are 64 pixels of a slide."""
    for split, n in PER_SPLIT.items():
        for name in ("ill", "well"):
            for k in range(n):
                pixels = made_slide(512, 256, (0, 0, 64 * (k + 2), 64))
                aperio(root / split / name / f"s{k}.svs", pixels, 0.5)
    return root


def folder(root: Path, **keys: Any) -> FolderDataset:
    return FolderDataset.model_validate({"source": "folder", "path": str(root)} | KEYS | keys)


def test_each_slide_is_a_case_of_its_tiles(tmp_path: Path) -> None:
    root = slide_set(tmp_path / "set")
    looked: list[tuple[int, int]] = []
    data = prepare(folder(root, tiles=3), tmp_path / "cache", looked=lambda *call: looked.append(call))
    assert looked == [(done + 1, 14) for done in range(14)]
    assert (data.unit, data.channels) == ("slide", 3)
    told = "14 slides of 2 to 3 tiles each, 36 in all, at 1 microns per pixel"
    assert told in read_facts(data.folder).notes
    assert data.cases == {split: 2 * n for split, n in PER_SPLIT.items()}
    assert data.sizes == {"train": 2 * (2 + 3 + 3), "val": 2 * (2 + 3), "test": 2 * (2 + 3)}
    rows = read_manifest(data.folder)
    assert rows.name[rows.case == "val/ill/s0.svs"].tolist() == [
        "val/ill/s0.svs#tile 0,0",
        "val/ill/s0.svs#tile 64,0",
    ]
    assert set(rows.width.tolist()) == {64}
    shown = data.split("val").images
    assert np.abs(shown.reshape(-1, 3).mean(axis=0) - TISSUE).max() <= 2


def test_validate_reads_headers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = slide_set(tmp_path / "set")

    def no_pixels(*_: object) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(openslide.OpenSlide, "read_region", no_pixels)
    notes = foresee(folder(root), tmp_path / "cache")
    assert "note: 14 slides; their tissue is detected when the data set is prepared" in notes


def slide_table(root: Path) -> Path:
    """A table of slides whose headers do not say how large a pixel is, two of a patient."""
    rows = []
    for number in range(16):
        pixels = made_slide(512, 256, (0, 0, 128 + 64 * (number % 3), 64), seed=number)
        pyramid(root / f"s{number}.tif", pixels, None)
        rows.append((f"s{number}.tif", ("ill", "well")[number // 2 % 2], f"P{number // 2}", "0.5"))
    with (root / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient", "mpp"), *rows])
    return root / "t.csv"


def table(path: Path, **keys: Any) -> CsvDataset:
    base = {"source": "csv", "path": str(path), "label_column": "label", "group_column": "patient"}
    return CsvDataset.model_validate(base | KEYS | keys)


def test_a_column_says_how_large_a_pixel_is_and_patients_stay_together(tmp_path: Path) -> None:
    path = slide_table(tmp_path / "set")
    with pytest.raises(UnusableRowsError, match=r"16 of 16 .* its header says no microns per pixel"):
        foresee(table(path), tmp_path / "cache")
    splits = {"val_fraction": 0.25, "test_fraction": 0.25}
    data = prepare(table(path, mpp_column="mpp", splits=splits), tmp_path / "cache")
    assert sum((data.cases or {}).values()) == 16
    rows = read_manifest(data.folder)
    for column in (rows.group, rows.case):
        for value in set(column.tolist()):
            assert len(set(rows.split[column == value].tolist())) == 1
    assert [len(set(rows.case[rows.group == g].tolist())) for g in sorted(set(rows.group.tolist()))] == [
        2
    ] * 8


def test_a_column_overrules_the_header_and_that_is_told(tmp_path: Path) -> None:
    path = slide_table(tmp_path / "set")
    pyramid(tmp_path / "set" / "s3.tif", made_slide(512, 256, (0, 0, 128, 64)), 0.25)
    notes = foresee(table(path, mpp_column="mpp"), tmp_path / "cache")
    said = (
        "dataset.mpp_column overrules the header of 1 slides, the first s3.tif (line 5): 0.5, its header 0.25"
    )
    assert f"note: {said}" in notes
    text = path.read_text().replace("well,P1,0.5", "well,P1,half", 1)
    path.write_text(text)
    with pytest.raises(UnusableRowsError, match="mpp = 'half': microns per pixel are a number above 0"):
        foresee(table(path, mpp_column="mpp"), tmp_path / "cache")


def test_files_of_a_dicom_slide_are_one_slide_of_its_patient(tmp_path: Path) -> None:
    number = 0
    for split, n in {"train": 2, "val": 1, "test": 1}.items():
        for name in ("ill", "well"):
            for k in range(n):
                pixels = made_slide(512, 256, (0, 0, 128 + 64 * (number % 2), 64))
                dicom_slide(tmp_path / "set" / split / name / f"s{k}", pixels, 0.5, f"P{number}")
                number += 1
    data = prepare(folder(tmp_path / "set"), tmp_path / "cache")
    assert data.cases == {"train": 4, "val": 2, "test": 2}
    rows = read_manifest(data.folder)
    assert set(rows.group.tolist()) == {pseudonym(f"P{k}") for k in range(number)}
    assert rows.case[0] == "train/ill/s0/level0.dcm"
    assert "Doe" not in (data.folder / "manifest.csv").read_text()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"unit": "volume"}, 'mpp needs unit = "slide", but unit is "volume"'),
        ({"mpp": None, "tiles": 5}, "tiles needs mpp"),
        ({"mpp": 0}, "greater than 0"),
    ],
)
def test_keys_that_do_not_fit(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        folder(Path("x"), **keys)


def test_a_slide_among_images_says_what_to_do(tmp_path: Path) -> None:
    root = slide_set(tmp_path / "set")
    with pytest.raises(
        UnusableRowsError, match=r's0.svs: a whole slide; unit = "slide" with dataset.mpp cuts'
    ):
        foresee(folder(root, mpp=None), tmp_path / "cache")


def test_glass_is_the_colour_that_is_written(tmp_path: Path) -> None:
    path = aperio(tmp_path / "a.svs", made_slide(), 0.5)
    assert np.abs(read_tile(path, Tile(0, 0, 64, 64), 32)[0].reshape(-1, 3).mean(axis=0) - GLASS).max() <= 2


def test_predict_gives_a_row_for_each_slide_and_is_told_what_a_header_lacks(tmp_path: Path) -> None:
    root = tmp_path / "new"
    for number, mpp in enumerate((0.5, 0.5, None)):
        aperio(root / f"{number}.svs", made_slide(512, 256, (0, 0, 128 + 64 * number, 64)), mpp)
    dicom_slide(root / "dicom", made_slide(512, 256, (0, 0, 64, 64)), 0.5)
    (root / "notes.txt").write_text("no slide")
    keys = {"image_size": 32, "channels": 3, "dtype": "uint8", "unit": "slide", "mpp": 1.0, "tiles": 3}
    config = CONFIG.model_copy(update=keys)
    model = Model(config, Deployed(config).network.state_dict())
    found = model.predict(root)
    names = [Path(name).relative_to(root).as_posix() for name in found.names]
    assert names == ["0.svs", "1.svs", "dicom/level0.dcm"]
    assert found.n_images == [2, 3, 1]
    assert "no microns per pixel; name them by dataset.mpp_column" in found.unreadable[str(root / "2.svs")]
    assert [one.names for one in found.ignored] == [("notes.txt",)]
    found = model.predict(root, mpp=0.5)
    assert (found.n_images, found.unreadable) == ([2, 3, 3, 1], {})


def test_the_folder_beside_a_mrxs_file_is_part_of_it(tmp_path: Path) -> None:
    for number in range(8):
        pixels = made_slide(512, 512, (0, 0, 256, 256), seed=number)
        mirax(tmp_path / "set" / ("ill", "well")[number % 2] / f"s{number}.mrxs", pixels, 0.5)
    data = prepare(folder(tmp_path / "set"), tmp_path / "cache")
    assert sum((data.cases or {}).values()) == 8
    assert read_facts(data.folder).ignored == []


def test_label_and_overview_of_a_dicom_slide_are_no_slides(tmp_path: Path) -> None:
    level0, level1 = dicom_slide(tmp_path, made_slide(), 0.5)
    for flavour in ("LABEL", "OVERVIEW"):
        other = pydicom.dcmread(level1)
        other.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        other.save_as(tmp_path / f"{flavour}.dcm", enforce_file_format=True)
    expected = tiles_of(level0, tiling())
    for path in sorted(tmp_path.iterdir()):
        assert read_slide(path, tiling()).key(path) == read_slide(level0, tiling()).key(level0)
        assert tiles_of(path, tiling()) == expected


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_share_of_tissue_is_that_of_the_cell(rows: int, columns: int, side: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows * side, columns * side)) < 0.5
    edges = np.arange(rows + 1) * float(side), np.arange(columns + 1) * float(side)
    expected = mask.reshape(rows, side, columns, side).mean(axis=(1, 3))
    assert _shares(mask, *edges) == pytest.approx(expected)


def test_tiles_of_another_image_size_show_the_same_tissue(tmp_path: Path) -> None:
    root = slide_set(tmp_path / "set")
    config = folder(root, image_size=32)
    data = prepare_sizes(config, (32, 64), tmp_path / "cache")
    larger = at_size(config, 64)
    assert (larger.image_size, larger.mpp) == (64, 0.5)
    assert prepare(larger, tmp_path / "cache").sizes == data.sizes


def test_a_damaged_tile_leaves_the_others_and_a_changed_slide_is_read_anew(tmp_path: Path) -> None:
    path = aperio(tmp_path / "a.svs", coloured(), 0.5)
    found = tiles_of(path, tiling(tissue=0))
    with tifffile.TiffFile(path) as tiff:
        start, n = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + n] = bytes(n)
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match="damaged"):
        read_tile(path, found[0], 128)
    damaged = read_tile(path, found[-1], 128)[0]

    aperio(path, made_slide(1024, 768, (0, 0, 1024, 768)), 0.5)
    changed = read_tile(path, found[-1], 128)[0]
    assert np.abs(changed.astype(int) - TISSUE).max() <= 3
    assert not np.array_equal(changed, damaged)

"""OCT files of Heidelberg and Topcon as volumes; the side of every stack is told."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfathom.data import oct_files
from medfathom.data.images import UnreadableImageError, decode, read_header
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import foresee, prepare
from medfathom.data.pseudonyms import pseudonym
from medfathom.definitions.dataset import FolderDataset

pytest.importorskip("oct_converter", reason="oct-converter is not installed (medfathom[oct])")
from dicom_files import dataset, saved
from making_oct import e2e, fda

U8 = np.dtype(np.uint8)


def floats(n: int = 3, seed: int = 0) -> np.ndarray:
    """B-scans of powers of two: 16 bits of which the upper six are the exponent."""
    return (np.random.default_rng(seed).integers(45, 64, (n, 16, 24)) << 10).astype(np.uint16)


def frames(path: Path, n: int) -> np.ndarray:
    content = path.read_bytes()
    return np.stack([decode(content, 1, U8, frame=k).pixels[:, :, 0] for k in range(n)])


def test_b_scans_of_heidelberg_are_as_written(tmp_path: Path) -> None:
    written = floats()
    path = e2e(tmp_path / "a.e2e", [(written, "L")])
    header = read_header(path, slice_axis=2)
    assert (header.frames, header.width, header.height, header.laterality) == (3, 24, 16, "L")
    assert header.subject is not None
    assert header.subject.patient == pseudonym("P7")
    assert header.subject.hidden("Doe_Jane_P7") == "_".join(map(pseudonym, ("Doe", "Jane", "P7")))
    # The fourth root is HEYEX's for .vol files; for .e2e oct-converter has this logarithm (its issue 21).
    values = 2.0 ** ((written >> 10).astype(int) - 63)
    light = np.clip((np.log(values + 2.44e-4) + 8.3) / 8.285, 0, 1)
    assert np.array_equal(frames(path, 3), np.rint(light * 255))


def test_b_scans_of_topcon_are_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = np.random.default_rng(0).integers(0, 256, (4, 32, 24), dtype=np.uint8)
    path = fda(tmp_path / "a.fda", written, "R", "P8")
    header = read_header(path, slice_axis=2)
    assert (header.frames, header.width, header.height, header.laterality) == (4, 24, 32, "R")
    assert header.subject is not None
    assert header.subject.patient == pseudonym("P8")
    assert np.array_equal(frames(path, 4), written)
    assert capsys.readouterr().out == ""


def test_several_volumes_in_a_file_are_refused_with_what_is_there(tmp_path: Path) -> None:
    path = e2e(tmp_path / "a.e2e", [(floats(3), "R"), (floats(5), "L")])
    said = r"2 OCT volumes \(R eye, 3 B-scans; L eye, 5 B-scans\); "
    ways = 'dataset.eye = "right" or dataset.eye = "left" takes one of them; or export each'
    with pytest.raises(UnreadableImageError, match=said + ways):
        read_header(path, slice_axis=2)


def test_an_eye_of_a_file_with_several_volumes_is_chosen(tmp_path: Path) -> None:
    right, left = floats(3, 1), floats(5, 2)
    path = e2e(tmp_path / "a.e2e", [(right, "R"), (left, "L")])
    alone = {"right": e2e(tmp_path / "r.e2e", [(right, "R")]), "left": e2e(tmp_path / "l.e2e", [(left, "L")])}
    for eye, n, letter in (("right", 3, "R"), ("left", 5, "L")):
        header = read_header(path, slice_axis=2, eye=eye)  # type: ignore[arg-type]
        assert (header.frames, header.laterality) == (n, letter)
        content = path.read_bytes()
        read = [decode(content, 1, U8, frame=k, eye=eye).pixels[:, :, 0] for k in range(n)]  # type: ignore[arg-type]
        assert np.array_equal(np.stack(read), frames(alone[eye], n))


def test_a_file_without_the_eye_is_refused(tmp_path: Path) -> None:
    left = e2e(tmp_path / "a.e2e", [(floats(4), "L")])
    said = r"no OCT volume is of the right eye \(dataset.eye\), but one is needed: L eye, 4 B-scans"
    with pytest.raises(UnreadableImageError, match=said):
        read_header(left, slice_axis=2, eye="right")
    twice = e2e(tmp_path / "b.e2e", [(floats(3), "R"), (floats(4), "R"), (floats(5), "L")])
    with pytest.raises(UnreadableImageError, match="2 OCT volumes are of the right eye"):
        read_header(twice, slice_axis=2, eye="right")
    assert read_header(twice, slice_axis=2, eye="left").frames == 5
    scans = np.zeros((2, 16, 24), dtype=np.uint8)
    with pytest.raises(UnreadableImageError, match="no OCT volume is of the right eye"):
        read_header(fda(tmp_path / "a.fda", scans, "L"), slice_axis=2, eye="right")
    made = dataset(np.zeros((16, 16), dtype=np.uint16), 12, ImageLaterality="L")
    (tmp_path / "a.dcm").write_bytes(saved(made))
    with pytest.raises(UnreadableImageError, match=r"of the left eye, but dataset\.eye is 'right'"):
        read_header(tmp_path / "a.dcm", slice_axis=2, eye="right")


def test_a_set_of_files_with_both_eyes_is_prepared_of_one(tmp_path: Path) -> None:
    for number in range(8):
        both = [(floats(3, number), "R"), (floats(4, number + 100), "L")]
        e2e(tmp_path / "set" / ("ill", "well")[number % 2] / f"v{number}.e2e", both, f"P{number}")
    keys = {"source": "folder", "path": str(tmp_path / "set"), "modality": "OCT", "image_size": 16}
    config = FolderDataset.model_validate({**keys, "unit": "volume", "eye": "left"})
    assert "note: 8 stacks of 4 images each, 32 in all" in foresee(config, tmp_path / "cache")
    assert sum(prepare(config, tmp_path / "cache").sizes.values()) == 32
    with pytest.raises(ValueError, match='eye needs unit = "volume"'):
        FolderDataset.model_validate({**keys, "eye": "left"})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Also where whole B-scans come before the cut, or it falls between two."""
    whole = e2e(tmp_path / "a.e2e", [(floats(), "R")]).read_bytes()
    chunk = 60 + 20 + floats()[0].nbytes
    between = [len(whole) - k * chunk + more for k in (1, 2, 3) for more in (0, 30, 60)]
    for n in (30, 120, 700, len(whole) // 2, len(whole) - 9, *between):
        (tmp_path / "b.e2e").write_bytes(whole[:n])
        with pytest.raises(UnreadableImageError):
            read_header(tmp_path / "b.e2e", slice_axis=2)
    with pytest.raises(
        UnreadableImageError, match='Topcon, which is a stack; unit = "volume" takes its slices'
    ):
        read_header(tmp_path / "a.e2e")


def test_b_scans_behind_an_empty_one_are_missed(tmp_path: Path) -> None:
    """oct-converter stops reading at a B-scan of no pixels; nothing is lost where that is the last."""
    whole = e2e(tmp_path / "a.e2e", [(floats(4), "R")]).read_bytes()
    chunk = 60 + 20 + floats()[0].nbytes
    for back in (2, 1):
        at = len(whole) - back * chunk + 60 + 12
        (tmp_path / f"{back}.e2e").write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    with pytest.raises(UnreadableImageError, match=r"\(2 of 3 B-scans of a volume can be read\)"):
        read_header(tmp_path / "2.e2e", slice_axis=2)
    assert read_header(tmp_path / "1.e2e", slice_axis=2).frames == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("No module", name="oct_converter"), r"\(.e2e\); install medfathom\[oct\] to read it$"),
        (
            ImportError("libGL.so.1: no such file"),
            r"medfathom\[oct\] to read it \(libGL.so.1: no such file\)$",
        ),
    ],
)
def test_the_extra_is_named(
    error: ImportError, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> Any:
        raise error

    path = e2e(tmp_path / "a.e2e", [(floats(seed=9), "R")])
    monkeypatch.setattr(oct_files, "import_module", fails)
    with pytest.raises(UnreadableImageError, match=reason):
        read_header(path, slice_axis=2)


def volumes(root: Path) -> FolderDataset:
    for number in range(12):
        folder = root / ("ill", "well")[number // 2 % 2]
        eye, patient = "RL"[number % 2], f"Pat{number // 2}"
        if number < 4:
            e2e(folder / f"{patient}_{eye}.e2e", [(floats(3, number), eye)], patient)
        else:
            scans = np.random.default_rng(number).integers(0, 256, (5, 16, 24), dtype=np.uint8)
            fda(folder / f"{patient}_{eye}.fda", scans, eye, patient)
    keys = {"source": "folder", "path": str(root), "modality": "OCT", "image_size": 16, "unit": "volume"}
    return FolderDataset.model_validate(keys)


def test_scans_and_sides_are_told_and_eyes_of_a_patient_stay_together(tmp_path: Path) -> None:
    config = volumes(tmp_path / "set")
    notes = foresee(config, tmp_path / "cache")
    assert "note: 12 stacks of 3 to 5 images each, 52 in all" in notes
    (sides,) = (note for note in notes if "sides" in note)
    assert sides.startswith("note: sides of these stacks: 6 left, 6 right; compare: ")
    first = pseudonym("Pat0")
    assert f"compare: ill/{first}_L.e2e: 3, left; ill/{first}_R.e2e: 3, right; " in sides
    assert sides.endswith(", ...")

    data = prepare(config, tmp_path / "cache")
    rows = read_manifest(data.folder)
    assert (len(rows), len(set(rows.group.tolist()))) == (52, 6)
    for patient in set(rows.group.tolist()):
        assert len(set(rows.split[rows.group == patient].tolist())) == 1
    assert "Pat" not in (data.folder / "manifest.csv").read_text()


@pytest.mark.parametrize(("position", "side"), [(b"OD", "R"), (b"OS", "L"), (b"", "")])
def test_the_side_of_a_vol_file(position: bytes, side: str, tmp_path: Path) -> None:
    start = bytearray(
        struct.pack("<12sIIIdddIIddId4s", b"HSF-OCT-103", 16, 2, 8, *[0.1] * 3, 0, 0, 0, 0, 30, 0, position)
    )
    header = bytes(start) + struct.pack("<QiI16s16sI24s", 0, 1, 256, b"", b"", 1, b"P7")
    scans = b"".join(bytes(256) + np.full((8, 16), 0.5, "<f4").tobytes() for _ in range(2))
    (tmp_path / "a.vol").write_bytes(header.ljust(2048, b"\0") + scans)
    found = read_header(tmp_path / "a.vol", slice_axis=2)
    assert (found.frames, found.laterality) == (2, side)


@pytest.mark.parametrize(
    ("tags", "side"),
    [({"ImageLaterality": "L"}, "L"), ({"Laterality": "R"}, "R"), ({"Laterality": "B"}, ""), ({}, "")],
)
def test_the_side_of_a_dicom_file(tags: dict[str, str], side: str, tmp_path: Path) -> None:
    made = dataset(np.zeros((16, 16), dtype=np.uint16), 12, **tags)
    (tmp_path / "a.dcm").write_bytes(saved(made))
    assert read_header(tmp_path / "a.dcm").laterality == side


def test_the_side_of_frames_of_a_dicom_file(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset  # noqa: PLC0415  an extra

    anatomy, groups = Dataset(), Dataset()
    anatomy.FrameLaterality = "L"
    groups.FrameAnatomySequence = [anatomy]
    made = dataset(np.zeros((16, 16), dtype=np.uint16), 12, SharedFunctionalGroupsSequence=[groups])
    (tmp_path / "a.dcm").write_bytes(saved(made))
    assert read_header(tmp_path / "a.dcm").laterality == "L"

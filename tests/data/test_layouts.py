"""Shipped definitions of tables read small sets with the layout, columns and quirks of the published ones."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import openpyxl

from making import images, save
from medfathom.data.sources.base import Listing
from medfathom.data.sources.open import open_source
from medfathom.definitions.load import load_definition
from medfathom.metrics.unknown import UNKNOWN

DEFINITIONS = Path(__file__).parents[2] / "study_defs"
GREY, COLOUR = images(1)[0], images(1, channels=3)[0]


def listed(name: str, path: Path, *overrides: str) -> Listing:
    """What the shipped definition lists of a set at `path`."""
    study = load_definition(str(DEFINITIONS / f"{name}.toml"), [f"dataset.path={path}", *overrides])
    found = open_source(study.dataset).listing()
    assert not found.problems, found.problems[:3]
    return found


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def groups(listing: Listing) -> list[str]:
    assert listing.groups is not None
    return list(map(str, listing.groups))


def files(folder: Path, names: Sequence[str], *, colour: bool = False) -> None:
    for name in names:
        save(folder / name, COLOUR if colour else GREY)


def test_nih_chestxray14(tmp_path: Path) -> None:
    """The header has commas in two columns' names, rows end with a comma, images lie in twelve folders."""
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    header += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    names = [f"{patient:08d}_{n:03d}.png" for patient in (1, 2, 3) for n in (0, 1)]
    labels = [
        "Cardiomegaly",
        "Cardiomegaly|Emphysema",
        "No Finding",
        "Hernia",
        "No Finding",
        "Pleural_Thickening",
    ]
    rows = [
        f"{n},{w},0,{int(n[:8])},058Y,M,PA,2682,2749,0.143,0.143," for n, w in zip(names, labels, strict=True)
    ]
    table = write(tmp_path / "Data_Entry_2017_v2020.csv", header, *rows)
    write(tmp_path / "train_val_list.txt", *names[:4])
    write(tmp_path / "test_list.txt", *names[4:])
    for row, name in enumerate(names):
        files(tmp_path / f"images_{row % 2 + 1:03d}" / "images", [name])
    found = listed("nih_chestxray14", table)
    assert found.class_names == ("Cardiomegaly", "Emphysema", "Hernia", "Pleural_Thickening")
    assert found.labels.tolist()[:3] == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert found.splits.tolist() == ["train"] * 4 + ["test"] * 2
    assert groups(found) == ["1", "1", "2", "2", "3", "3"]


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def test_chexpert(tmp_path: Path) -> None:
    """Blank and -1.0 cells, lateral views, paths that begin with the folder's own name."""
    folder = "CheXpert-v1.0-small"
    rows = [
        f"{folder}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        f"{folder}/train/patient00002/study2/view1_frontal.jpg,"
        "Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        f"{folder}/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,",
    ]
    write(tmp_path / folder / "train.csv", CHEXPERT, *rows)
    valid = f"{folder}/valid/patient64541/study1/view1_frontal.jpg"
    write(
        tmp_path / folder / "valid.csv",
        CHEXPERT,
        f"{valid},Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,1.0,0.0,1.0,0,0,0",
    )
    files(tmp_path, [row.split(",")[0] for row in rows] + [valid])
    found = listed("chexpert", tmp_path / folder, f"dataset.root={tmp_path}")
    assert found.class_names == ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    assert found.labels.tolist() == [[0, 0, 0, 0, 0], [1, UNKNOWN, UNKNOWN, 1, UNKNOWN], [1, 1, 0, 0, 1]]
    assert found.splits.tolist() == ["train", "train", "test"]
    assert groups(found) == ["patient00001", "patient00002", "patient64541"]
    assert "1 of 4 rows are left out by dataset.where" in found.notes


def test_rsna_and_vindr_as_png(tmp_path: Path) -> None:
    """The same tables where the files were converted: rows merged, readers outvoted."""
    files(tmp_path / "stage_2_train_images", ["a.png", "b.png"])
    table = write(
        tmp_path / "t.csv", "patientId,x,y,width,height,Target", "a,,,,,0", "b,264.0,1,2,3,1", "b,9,1,2,3,1"
    )
    template = "stage_2_train_images/{patientId}.png"
    assert listed("rsna_pneumonia", table, f"dataset.path_template={template}").labels.tolist() == [0, 1]
    findings = (
        "Aortic enlargement,Atelectasis,Cardiomegaly,Lung Opacity,Nodule/Mass,Pleural effusion,"
        "Pleural thickening,Pulmonary fibrosis,No finding"
    )
    readers = [
        "x,R9,1,0,1,0,0,0,0,0,0",
        "x,R10,0,0,1,0,0,0,0,0,0",
        "x,R8,0,0,0,0,0,1,0,0,0",
        "y,R8,0,0,0,0,0,0,0,0,1",
    ]
    folder = tmp_path / "annotations"
    write(folder / "image_labels_train.csv", f"image_id,rad_id,{findings}", *readers)
    write(folder / "image_labels_test.csv", f"image_id,{findings}", "z,0,0,0,0,0,1,0,0,0")
    files(tmp_path, ["train/x.png", "train/y.png", "test/z.png"])
    found = listed("vindr_cxr", folder, f"dataset.root={tmp_path}", "dataset.path_template={image_id}.png")
    assert found.labels.tolist() == [[0, 1, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 1, 0, 0]]
    assert found.splits.tolist() == ["train", "train", "test"]


def test_mimic_cxr_jpg(tmp_path: Path) -> None:
    """Three compressed tables, folders named by the first digits of a patient, a split called validate."""
    meta = write(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns",
        "d1,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544",
        "d2,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544",
        "d3,11000033,50414268,CHEST (PORTABLE AP),AP,3056,2544",
    )
    split = ["d1,50414267,10000032,train", "d2,50414267,10000032,train", "d3,50414268,11000033,validate"]
    write(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split", *split)
    write(
        tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz",
        "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,No Finding,Pleural Effusion",
        "10000032,50414267,,,,,1.0,",
        "11000033,50414268,1.0,-1.0,,0.0,,-1.0",
    )
    files(tmp_path / "files", ["p10/p10000032/s50414267/d1.jpg", "p11/p11000033/s50414268/d3.jpg"])
    found = listed("mimic_cxr_jpg", meta)
    assert found.labels.tolist() == [[0, 0, 0, 0, 0], [1, UNKNOWN, 0, 0, UNKNOWN]]
    assert found.splits.tolist() == ["train", "val"]
    assert groups(found) == ["10000032", "11000033"]


def test_padchest(tmp_path: Path) -> None:
    """Python lists with other labels, spaces and places; a first column without a name."""
    table = write(
        tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        ",ImageID,ImageDir,StudyID,PatientID,Projection,PhotometricInterpretation_DICOM,Labels",
        "0,a.png,0,s0,p0,PA,MONOCHROME2,\"['pulmonary fibrosis', 'chronic changes', 'cardiomegaly']\"",
        "1,b.png,0,s1,p1,PA,MONOCHROME2,['normal']",
        "2,c.png,33,s2,p1,PA,MONOCHROME2,\"['unchanged', ' scoliosis']\"",
        "3,d.png,33,s3,p2,L,MONOCHROME2,['normal']",
        "4,e.png,33,s3,p2,PA,MONOCHROME1,['normal']",
    )
    files(tmp_path, ["0/a.png", "0/b.png", "33/c.png"])
    found = listed("padchest", table)
    positive = [
        [n for n, f in zip(found.class_names, row, strict=True) if f] for row in found.labels.tolist()
    ]
    assert positive == [["cardiomegaly", "chronic changes"], [], ["scoliosis"]]
    assert groups(found) == ["p0", "p1", "p1"]


def test_isic2018(tmp_path: Path) -> None:
    """Exactly one 1.0 in a row, a table and a folder for each split."""
    columns = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
    for split, ids in (("Training", (306, 307)), ("Validation", (262,)), ("Test", (524,))):
        stem = f"ISIC2018_Task3_{split}"
        rows = [f"ISIC_{i:07d}," + ",".join("1.0" if k == i % 7 else "0.0" for k in range(7)) for i in ids]
        write(tmp_path / f"{stem}_GroundTruth" / f"{stem}_GroundTruth.csv", columns, *rows)
        files(tmp_path / f"{stem}_Input", [f"ISIC_{i:07d}.jpg" for i in ids], colour=True)
    found = listed("isic2018", tmp_path)
    assert found.task == "multiclass"
    assert found.labels.tolist() == [306 % 7, 307 % 7, 262 % 7, 524 % 7]
    assert found.splits.tolist() == ["train", "train", "val", "test"]


def test_ham10000(tmp_path: Path) -> None:
    """Two folders of images, several images of a lesion."""
    rows = [
        "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp",
        "HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp",
    ]
    rows += ["HAM_0002730,ISIC_0026769,nv,histo,,male,scalp"]
    table = write(
        tmp_path / "HAM10000_metadata.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization", *rows
    )
    files(tmp_path / "HAM10000_images_part_1", ["ISIC_0027419.jpg", "ISIC_0025030.jpg"], colour=True)
    files(tmp_path / "HAM10000_images_part_2", ["ISIC_0026769.jpg"], colour=True)
    found = listed("ham10000", table)
    assert (found.class_names, found.labels.tolist()) == (("bkl", "nv"), [0, 0, 1])
    assert groups(found) == ["HAM_0000118", "HAM_0000118", "HAM_0002730"]


def test_rfmid(tmp_path: Path) -> None:
    """1.png is another image in each split."""
    columns = "ID,Disease_Risk,DR,ARMD,MH,DN,MYA,BRVO,TSLN,ERM,LS,MS,CSR,ODC,CRVO"
    for folder, name, images_in in (
        ("Training_Set", "RFMiD_Training_Labels.csv", "Training"),
        ("Evaluation_Set", "RFMiD_Validation_Labels.csv", "Validation"),
        ("Test_Set", "RFMiD_Testing_Labels.csv", "Test"),
    ):
        write(tmp_path / folder / name, columns, "1,1,1,0,0,0,0,0,0,0,0,0,0,1,0", "2,0" + ",0" * 13)
        files(tmp_path / folder / images_in, ["1.png", "2.png"], colour=True)
    found = listed("rfmid", tmp_path)
    assert found.labels.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1], [0] * 8] * 3
    assert found.splits.tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2


def test_aptos2019_and_eyepacs(tmp_path: Path) -> None:
    """Names without a suffix; two eyes of a patient."""
    table = write(tmp_path / "train.csv", "id_code,diagnosis", "000c1434d8d7,2", "001639a390f0,4")
    files(tmp_path / "train_images", ["000c1434d8d7.png", "001639a390f0.png"], colour=True)
    found = listed("aptos2019", table)
    assert (found.class_names, found.labels.tolist()) == (("2", "4"), [0, 1])
    table = write(tmp_path / "trainLabels.csv", "image,level", "10_left,0", "10_right,0", "13_left,1")
    files(tmp_path / "train", ["10_left.jpeg", "10_right.jpeg", "13_left.jpeg"], colour=True)
    assert groups(listed("eyepacs", table)) == ["10", "10", "13"]


def test_odir5k(tmp_path: Path) -> None:
    """An Excel table with both eyes of a patient in a row."""
    book = openpyxl.Workbook()
    columns = ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus"]
    columns += ["Left-Diagnostic Keywords", "Right-Diagnostic Keywords", *"NDGCAHMO"]
    book.active.append(columns)
    book.active.append(
        [0, 69, "Female", "0_left.jpg", "0_right.jpg", "cataract", "normal", 0, 0, 0, 1, 0, 0, 0, 0]
    )
    book.active.append(
        [1, 57, "Male", "1_left.jpg", "1_right.jpg", "normal fundus", "normal", *[1] + [0] * 7]
    )
    table = tmp_path / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"
    book.save(table)
    folder = tmp_path / "ODIR-5K_Training_Dataset"
    files(folder, [f"{n}_{side}.jpg" for n in (0, 1) for side in ("left", "right")], colour=True)
    found = listed("odir5k", table, f"dataset.root={folder}")
    assert found.labels.tolist() == [[0, 0, 1, 0, 0, 0, 0]] * 2 + [[0] * 7] * 2
    assert groups(found) == ["0", "0", "1", "1"]


def test_kermany_s_persons_are_told_apart_by_kind_and_in_test(tmp_path: Path) -> None:
    files(tmp_path, ["train/NORMAL/IM-0115-0001.jpeg", "train/PNEUMONIA/person1_bacteria_1.jpeg"])
    files(tmp_path, ["train/PNEUMONIA/person1_bacteria_2.jpeg", "train/PNEUMONIA/person1_virus_7.jpeg"])
    files(tmp_path, ["test/NORMAL/NORMAL2-IM-0007-0001.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg"])
    found = listed("kermany_cxr", tmp_path)
    assert dict(zip((name.rpartition("/")[2] for name in found.names), groups(found), strict=True)) == {
        "IM-0115-0001.jpeg": "IM-0115",
        "person1_bacteria_1.jpeg": "person1_bacteria",
        "person1_bacteria_2.jpeg": "person1_bacteria",
        "person1_virus_7.jpeg": "person1_virus",
        "NORMAL2-IM-0007-0001.jpeg": "NORMAL2-IM-0007",
        "person1_virus_6.jpeg": "test/PNEUMONIA/person1_virus",
    }


def labelled(listing: Listing) -> dict[str, str]:
    names = zip(listing.names, listing.labels.tolist(), strict=True)
    return {name: listing.class_names[label] for name, label in names}


def test_sets_of_folders(tmp_path: Path) -> None:
    """Classes deep in the path or in a folder's name, masks beside the images."""
    slide = "SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png"
    ill = "SOB/ductal_carcinoma/SOB_M_DC_14-10926/100X/SOB_M_DC-14-10926-100-003.png"
    files(tmp_path / "breakhis", [f"benign/{slide}", f"malignant/{ill}"], colour=True)
    found = listed("breakhis", tmp_path / "breakhis")
    assert labelled(found) == {f"benign/{slide}": "benign", f"malignant/{ill}": "malignant"}
    assert groups(found) == ["14-22549", "14-10926"]
    tissues = {
        c: f"{'lung' if 'lung' in c else 'colon'}_image_sets/{c}/1.jpeg"
        for c in ("lung_n", "colon_n", "colon_aca")
    }
    files(tmp_path / "lc", list(tissues.values()), colour=True)
    assert labelled(listed("lc25000", tmp_path / "lc")) == {path: c for c, path in tissues.items()}
    scans = [f"{folder}/TIFFs/8bitTIFFs/001.tif" for folder in ("AMD1", "AMD12", "DME3", "NORMAL15")]
    files(tmp_path / "duke", scans)
    found = listed("duke_oct", tmp_path / "duke")
    assert found.class_names == ("AMD", "DME", "NORMAL")
    assert groups(found) == ["AMD1", "AMD12", "DME3", "NORMAL15"]
    kept = [
        f"{s}/{c}/images/{c}_1.png"
        for s in ("Train", "Val", "Test")
        for c in ("COVID-19", "Non-COVID", "Normal")
    ]
    files(tmp_path / "qu", kept + [name.replace("images", "lung masks") for name in kept])
    assert sorted(listed("covid_qu_ex", tmp_path / "qu").names) == sorted(kept)
    kept = [f"{c}/{c} (1).png" for c in ("benign", "malignant", "normal")]
    masks = ["benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png", "normal/normal (1)_mask.png"]
    files(tmp_path / "busi", kept + masks)
    assert sorted(listed("busi", tmp_path / "busi").names) == kept

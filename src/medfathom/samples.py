"""`medfathom samples`: images of your own and a published table, to try the commands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medfathom.errors import InputError
from medfathom.files import write_atomically

RESULTS = """architecture,dataset,modality,test_auc
vgg16,pneumoniamnist,CXR,0.9847
resnet18,pneumoniamnist,CXR,0.9804
densenet121,pneumoniamnist,CXR,0.9741
efficientnet_b4,pneumoniamnist,CXR,0.9671
vit_base_patch16_224,pneumoniamnist,CXR,0.9633
vgg16,octmnist,OCT,0.9917
resnet18,octmnist,OCT,0.9881
densenet121,octmnist,OCT,0.9926
efficientnet_b4,octmnist,OCT,0.9893
vit_base_patch16_224,octmnist,OCT,0.9912
"""
"""Test AUCs at 224 pixels from Doerrich et al., Rethinking model prototyping through the MedMNIST+ dataset
collection (github.com/sdoerrich97/rethinking-model-prototyping-MedMNISTPlus)."""

SIDE = 64
PATIENTS, NEW = 60, 12
"""Patients with two images each in class folders, and images without a class."""


@dataclass(frozen=True)
class Samples:
    """What was written: a folder of class folders, a folder of images to predict, a table of results."""

    scans: Path
    new_scans: Path
    results: Path


def write_samples_of_data(folder: Path) -> Samples:
    """Draw a small OCT data set as files, the same on any machine, and write a published table beside it.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} already exists; give a new folder")
    found = Samples(folder / "oct-scans", folder / "new-scans", folder / "results.csv")
    try:
        found.new_scans.mkdir(parents=True)
        _draw(found)
        write_atomically(found.results, RESULTS)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    return found


def _draw(samples: Samples) -> None:
    from PIL import Image  # noqa: PLC0415

    from medfathom.data.phantoms.phantom import PhantomSource  # noqa: PLC0415
    from medfathom.definitions.dataset import PhantomDataset  # noqa: PLC0415

    source = PhantomSource(
        PhantomDataset(
            source="phantom-oct",
            modality="OCT",
            image_size=SIDE,
            n_train=2 * PATIENTS,
            n_val=NEW,
            n_test=NEW,
            patients_train=PATIENTS,
            patients_val=NEW,
            patients_test=NEW,
        )
    )
    listing = source.listing()
    for row in range(2 * PATIENTS + NEW):
        image = Image.fromarray(source.decode(row).pixels[:, :, 0])
        if row >= 2 * PATIENTS:
            image.save(samples.new_scans / f"scan{row - 2 * PATIENTS:02d}.png")
            continue
        path = samples.scans / listing.class_names[listing.labels[row]]
        path.mkdir(parents=True, exist_ok=True)
        image.save(path / f"patient{row % PATIENTS:03d}_{row // PATIENTS}.png")

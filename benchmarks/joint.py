"""What an epoch of a joint trial costs, against the same epochs of a trial for each data set alone.

`python benchmarks/joint.py` on a machine that does little else: ten minutes of a CPU core. Three phantoms of
equal size at 64 pixels; the ratio is of CPU seconds per image (training, validation) after the first epoch.
Joint and separate trials take turns, so that a slow minute meets both.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from medfathom.data.joint import prepare_study
from medfathom.data.prepared import PreparedData, parts_of
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.joint import JointDataset
from medfathom.definitions.space import TrialParams
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

SIZE, EPOCHS, ROUNDS = 64, 4, 3
SIZES = {"n_train": 256, "n_val": 64, "n_test": 16}
SETS = {"cxr": "CXR", "oct": "OCT", "wsi": "WSI"}
ARCHITECTURE, DEPTHS = "tf_efficientnet_lite0", (5, 1)


def seconds_per_image(data: PreparedData, params: TrialParams, folder: Path) -> float:
    """CPU seconds of an epoch after the first, over the images that it trains and judges."""
    training = TrainingConfig(precision="float32")
    task = TrialTask(data, training, EPOCHS, 0, folder, None, "cpu", 1)
    marks = [time.process_time() for _ in run_trial(params, task)]
    # The last epoch also judges training images.
    return float(np.mean(np.diff(marks)[: EPOCHS - 2])) / (data.sizes["train"] + data.sizes["val"])


def main() -> None:
    torch.set_num_threads(1)
    tables = [
        {"source": f"phantom-{name}", "name": name, "modality": modality, "image_size": SIZE, **SIZES}
        for name, modality in SETS.items()
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset = JointDataset.model_validate({"source": "joint", "datasets": tables, "channels": 3})
        joint = prepare_study(dataset, folder)
        print("| unfreeze depth | norm | joint, ms an image | alone, ms an image | joint over alone |")
        print("| --- | --- | --- | --- | --- |")
        for depth in DEPTHS:
            for norm in ("shared", "per_dataset"):
                params = TrialParams(
                    architecture=ARCHITECTURE, init="random", unfreeze_depth=depth, norm=norm
                )
                pairs = []
                for _ in range(ROUNDS):
                    alone = [seconds_per_image(part, params, folder) for part in parts_of(joint)]
                    pairs.append((seconds_per_image(joint, params, folder), float(np.mean(alone))))
                ratios = [one / other for one, other in pairs]
                own, theirs = (1000 * float(np.median(values)) for values in zip(*pairs, strict=True))
                print(
                    f"| {depth} | {norm} | {own:.2f} | {theirs:.2f} | {np.median(ratios):.2f} "
                    f"({min(ratios):.2f} to {max(ratios):.2f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""A plain hyperparameter search with Ray Tune and timm: what one writes from the two libraries'
documentation.

Ray Tune's PyTorch guide for the search (function trainable, `tune.grid_search`, one CPU for each trial),
timm's feature extraction and training guides for the model (`create_model`, `resolve_data_config`,
`create_transform`), torch's transfer-learning tutorial for the freezing, scikit-learn for the AUC. Prints one
JSON line with every trial.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from ray import tune
from sklearn.metrics import roc_auc_score
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader, Dataset

STAGES = {"head": [], "last": ["layer4"], "all": None}
"""What is trained besides the classifier; None: everything."""


class NpzImages(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, file: str, split: str, transform: Any) -> None:
        with np.load(file) as arrays:
            self.images = arrays[f"{split}_images"]
            self.labels = arrays[f"{split}_labels"].ravel().astype(int)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images[index]).convert("RGB")
        return self.transform(image), int(self.labels[index])


def build(config: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(config["seed"])
    model = timm.create_model(
        config["architecture"],
        pretrained=True,
        pretrained_cfg_overlay={"file": config["weights"]},
        num_classes=2,
    )
    trained = STAGES[config["train"]]
    if trained is not None:
        for parameter in model.parameters():
            parameter.requires_grad = False
        for module in (model.get_classifier(), *(getattr(model, name) for name in trained)):
            for parameter in module.parameters():
                parameter.requires_grad = True
    return model


def set_training_mode(model: torch.nn.Module, train: str) -> None:
    """Batch norm of frozen stages keeps its statistics."""
    trained = STAGES[train]
    model.train()
    if trained is not None:
        for name, child in model.named_children():
            child.train(name in trained)


def validate(model: torch.nn.Module, loader: DataLoader[Any]) -> float:
    model.eval()
    scores, labels = [], []
    with torch.no_grad():
        for images, targets in loader:
            scores.append(model(images).softmax(dim=1)[:, 1])
            labels.append(targets)
    return float(roc_auc_score(torch.cat(labels), torch.cat(scores)))


def train(config: dict[str, Any]) -> None:
    started = time.perf_counter()
    model = build(config)
    data_config = resolve_data_config(
        {"input_size": (3, config["size"], config["size"]), "crop_pct": 1.0}, model=model
    )
    transform = create_transform(**data_config, is_training=False)
    loaders = {
        split: DataLoader(
            NpzImages(config["npz"], split, transform),
            batch_size=config["batch_size"],
            shuffle=split == "train",
            num_workers=config["workers"],
        )
        for split in ("train", "val")
    }
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), lr=config["lr"], weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["epochs"])
    criterion = torch.nn.CrossEntropyLoss()
    for _ in range(config["epochs"]):
        set_training_mode(model, config["train"])
        for images, targets in loaders["train"]:
            optimizer.zero_grad()
            loss = criterion(model(images), targets)
            loss.backward()
            optimizer.step()
        schedule.step()
        auc = validate(model, loaders["val"])
        tune.report({"auc": auc, "seconds": time.perf_counter() - started})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--npz", required=True, type=lambda text: str(Path(text).resolve()))
    parser.add_argument("--weights", required=True, type=lambda text: str(Path(text).resolve()))
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    space = {
        "train": tune.grid_search(["head", "last", "all"]),
        "lr": tune.grid_search([3e-4, 1e-3]),
        **{key.replace("-", "_"): value for key, value in vars(arguments).items() if key != "out"},
    }
    started = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(metric="auc", mode="max"),
        run_config=tune.RunConfig(storage_path=arguments.out, name="plain", verbose=0),
    )
    results = tuner.fit()
    trials = [
        {
            "train": r.config["train"],
            "lr": r.config["lr"],
            "auc": r.metrics["auc"],
            "seconds": r.metrics["seconds"],
        }
        for r in results
    ]
    print(json.dumps({"seconds": time.perf_counter() - started, "trials": trials}))


if __name__ == "__main__":
    main()

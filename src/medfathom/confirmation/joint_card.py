"""The model card of a model of several data sets: what it is, and what it is worth on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.confirmation.find import definition_of
from medfathom.confirmation.openings import read_openings
from medfathom.confirmation.words import in_test_split, opened, what_varies
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.joint import members
from medfathom.text import harmless, markdown_table

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.confirmation.results import ConfirmedModel, StratumResult
    from medfathom.models.folder import ModelConfig

CARD = """---
tags: [image-classification, medical-imaging]
---

# {study}: one {architecture} for {count} data sets

One backbone with a head for each of {names}. {norm} Written by medfathom {version}.

## Use

Each head has a folder with its own card, classes, temperature and thresholds:

```
{predict}
```

```python
import medfathom

medfathom.load("FOLDER/{first}").predict(["image.png"])
```

All weights are in `model.safetensors`. timm cannot load it, as the heads have their own names.

## Performance

{opened}

{table}

The mean over data sets is {test_auc:.4f} (95 % interval {low:.4f} to {high:.4f}): each data set has the
same weight. Intervals are {varies}. The table is of all seeds; the model here is of seed {seed}.

## Limits

- **Not a medical device.** It has not been validated for clinical use. Do not base a diagnosis on it.
- A head knows the classes of its own data set. The model does not detect the kind of an image: the user
  chooses the head.
{leakage}"""

NORMS = {
    "shared": "All share their batch norm.",
    "per_dataset": "Trained batch norm has statistics, scale and shift for each data set.",
}


def joint_card(config: ModelConfig, study: Study, configuration: StratumResult, model: ConfirmedModel) -> str:
    """The card in Markdown; each head's own card is `card.model_card`.

    Args:
        config: of the whole model.
        study: the search.
        configuration: that the model is of, over all its seeds.
        model: that is exported.
    """
    modalities = {one.name: one.modality for one in members(definition_of(study).dataset)}
    rows = [["data set", "modality", "test split", "validation AUC", "test AUC", "95 % interval"]]
    for name, one in configuration.datasets.items():
        rows.append(
            [
                *(name, modalities[name], in_test_split(one, "case").replace("test ", "")),
                *(f"{one.val_auc:.4f}", f"{one.test_auc:.4f}", f"{one.ci[0]:.4f} to {one.ci[1]:.4f}"),
            ]
        )
    leakage = study.user_attrs.get(LEAKAGE)
    text = CARD.format(
        study=study.study_name,
        architecture=config.architecture,
        count=len(config.heads),
        names=", ".join(config.heads),
        norm=NORMS[config.norm],
        version=config.medfathom,
        predict="\n".join(f"medfathom predict FOLDER/{name} IMAGES…" for name in config.heads),
        first=config.heads[0],
        opened=opened(read_openings(study)),
        table="\n".join(markdown_table(rows)),
        test_auc=configuration.test_auc,
        low=configuration.ci[0],
        high=configuration.ci[1],
        varies=what_varies(configuration),
        seed=model.seed,
        leakage=f"- {leakage}.\n" if leakage else "",
    )
    return harmless(text)

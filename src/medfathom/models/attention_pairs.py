"""Networks that differ in an attention module alone, at nearly equal size. Imports no torch."""

from __future__ import annotations

ATTENTION_PAIRS = {
    "ecaresnet26t": ("resnet26t", "ECA"),
    "seresnext26ts": ("resnext26ts", "SE"),
    "eca_resnext26ts": ("resnext26ts", "ECA"),
    "gcresnext26ts": ("resnext26ts", "GC"),
    "eca_botnext26ts_256": ("eca_resnext26ts", "BoT"),
    "seresnet33ts": ("resnet33ts", "SE"),
    "eca_resnet33ts": ("resnet33ts", "ECA"),
    "gcresnet33ts": ("resnet33ts", "GC"),
    "ecaresnet50d": ("resnet50d", "ECA"),
    "ecaresnet50t": ("resnet50t", "ECA"),
    "gcresnet50t": ("resnet50t", "GC"),
    "seresnet50": ("resnet50", "SE"),
    "seresnext50_32x4d": ("resnext50_32x4d", "SE"),
    "ecaresnet101d": ("resnet101d", "ECA"),
    "skresnet18": ("resnet18", "SK"),
    "skresnet34": ("resnet34", "SK"),
}
"""Network -> the same without, and the attention.

SE: squeeze and excitation (Hu et al. 2018). ECA: Wang et al. 2020. GC: global context (Cao et al. 2019).
SK: selective kernels (Li et al. 2019). BoT: self-attention in the last stages (Srinivas et al. 2021). The two
have parameter counts within 12 % of one another: BoTNet-26 and SE-BoTNet-33, which are a quarter smaller than
their counterparts, are left out.
"""

"""The year in which a family of networks was published, and whether it attends. Imports no torch."""

from __future__ import annotations

YEARS = {
    "alexnet": 2012, "beit": 2021, "byoanet": 2021, "byobnet": 2021, "cait": 2021, "coat": 2021,
    "convmixer": 2022,
    "convnext": 2022, "davit": 2022, "deit": 2020, "densenet": 2016, "dla": 2017, "edgenext": 2022,
    "efficientformer": 2022, "efficientnet": 2019,
    "efficientvit_mit": 2022, "efficientvit_msra": 2023, "eva": 2022, "fastvit": 2023, "ghostnet": 2019,
    "googlenet": 2014, "hiera": 2023, "hrnet": 2019, "inception_resnet_v2": 2016, "inception_v3": 2015,
    "inception_v4": 2016, "levit": 2021, "maxxvit": 2022, "metaformer": 2022, "mlp_mixer": 2021,
    "mnasnet": 2018, "mobilenetv2": 2018, "mobilenetv3": 2019, "mobilevit": 2021, "nasnet": 2017,
    "nfnet": 2021, "pit": 2021, "poolformer": 2021, "regnet": 2020, "repvit": 2023, "res2net": 2019,
    "resnest": 2020, "resnet": 2015, "resnetv2": 2016, "resnext": 2016, "rexnet": 2020, "senet": 2017,
    "shufflenet_v2": 2018, "sknet": 2019, "squeezenet": 2016, "swin_transformer": 2021,
    "swin_transformer_v2": 2021,
    "tiny_vit": 2022, "vgg": 2014, "vision_transformer": 2020, "xception": 2016, "xcit": 2021,
}  # fmt: skip
"""timm's module -> the year of the first preprint on its networks."""

ATTENTION = frozenset((
    "beit", "byoanet", "cait", "coat", "davit", "deit", "edgenext", "efficientformer",
    "efficientvit_mit", "efficientvit_msra", "eva", "fastvit", "hiera",
    "levit", "maxxvit", "mobilevit", "pit", "swin_transformer", "swin_transformer_v2", "tiny_vit",
    "vision_transformer", "xcit",
))  # fmt: skip
"""timm's modules whose networks are built around self-attention."""

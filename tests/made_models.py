"""An exported model's configuration, for tests that write a model folder of their own."""

from medfathom.models.folder import ModelConfig

CONFIG = ModelConfig(
    version=1,
    medfathom="0",
    study="made",
    trial=0,
    seed=0,
    modality="CXR",
    dataset="made",
    dataset_fingerprint="0",
    architecture="tf_efficientnet_lite0",
    init="random",
    unfreeze_depth=5,
    head_dropout=0.0,
    head_pooling="avg",
    head_hidden=0,
    grey="repeat",
    task="binary",
    class_names=["well", "ill"],
    image_size=32,
    fit="squash",
    channels=1,
    dtype="uint8",
    bits=16,
    mean=[0.5, 0.4, 0.3],
    std=[0.5, 0.5, 0.5],
    temperature=2.0,
    thresholds=[0.5],
)

"""A model folder at work: images in, class probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.data.images import (
    MIN_SIDE,
    Header,
    UnreadableImageError,
    fit_square,
    full_range,
    read_header,
)
from medfathom.data.slides import Tile
from medfathom.data.sources.base import Ignored
from medfathom.data.sources.files import FileDecoder
from medfathom.data.sources.walk import Choice
from medfathom.data.stacks import ImageFile
from medfathom.errors import DataError, ExportedModelError, InputError
from medfathom.exported.as_html import model_html
from medfathom.exported.cases import CaseImages, Image, files_or_refused, images_by_case
from medfathom.exported.network import Averaged, Deployed
from medfathom.exported.predictions import Predictions
from medfathom.exported.timm_layout import read_state
from medfathom.metrics.calibration import calibrated, decide
from medfathom.metrics.cases import cases_of, combine_logits
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.folder import ModelConfig, read_config, read_model_folder
from medfathom.text import command, number_of, printable
from medfathom.trial.inputs import pixels
from medfathom.trial.rows import as_tensor

DARK_BELOW = 4
"""An image that leaves so many upper bits unused may be of another depth."""

BATCH = 64
"""Images in one forward pass. A constant: results differ in their last bits with the size of a batch."""


Images = str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]]


class Model:
    """A trained network, ready to predict. Made by `load`.

    Attributes:
        config: how it was built, how images are prepared, how outputs are read.
        device: where it computes.
        module: the network behind its normalisation, in evaluation mode.
    """

    def __init__(self, config: ModelConfig, state: dict[str, Tensor], device: str = "cpu") -> None:
        """Raises ExportedModelError where the tensors are not the network's."""
        self.config = config
        self.device = torch.device(device)
        self.module = Averaged(config) if config.members else Deployed(config)
        try:
            self.module.weights.load_state_dict(state)
        except RuntimeError as error:
            raise ExportedModelError(
                f"the weights are not a {config.architecture}'s ({_short(error)})"
            ) from None
        self.module.to(self.device).eval()

    def _repr_html_(self) -> str:
        """In a notebook: what it is."""
        return model_html(self.config)

    def predict(self, images: Images, *, mpp: float | None = None) -> Predictions:
        """Class probabilities of images.

        Args:
            images: a file, a folder (its images, as in training), an array (h, w), (h, w, c) or
                (n, h, w, c) of uint8 or uint16, or several files and arrays. Where the model judges cases,
                the images of a folder are a case, and so is an array of several images: see
                `images_by_case`. Arrays have the raw
                values of the source: in uint16, white is the largest value of the model's `bits`. Images of
                another size, depth or number of channels are converted, and a remark says so; unreadable
                files are skipped and named in the result.
            mpp: microns per pixel of whole slides whose header does not say it.

        Raises:
            DataError: an array that is no image, or has values beyond the model's `bits`; nothing to predict.
        """
        reading = _Reading(self.config)
        if self.config.unit != "image":
            return self._predict_cases(images_by_case(images, self.config, mpp), reading)
        items, ignored = listed(images, Choice(self.config.include, self.config.exclude))
        _, names, logits = self._read(items, reading)
        return replace(self.decide(names, logits, reading), ignored=ignored)

    def _read(
        self, items: Sequence[Image], reading: _Reading
    ) -> tuple[list[int], list[str], NDArray[np.float32]]:
        """Positions, names and logits of all items that can be read."""
        logits, places, names = [], [], []
        for batch in _batched(reading.images(items), BATCH):
            places += [place for place, _, _ in batch]
            names += [name for _, name, _ in batch]
            logits.append(self.logits(np.stack([image for _, _, image in batch])))
        outputs = network_outputs(self.config)
        return places, names, np.concatenate(logits) if logits else np.empty((0, outputs), dtype=np.float32)

    def _predict_cases(self, found: CaseImages, reading: _Reading) -> Predictions:
        reading.unreadable.update(found.without)
        places, names, logits = self._read(found.items, reading)
        grouping = cases_of([found.cases[place] for place in places])
        config = self.config
        combined = combine_logits(config.task, logits, grouping.member, config.combine) if names else logits
        whole = self.decide(grouping.names.tolist(), combined, reading)
        temperature = config.image_temperature or 1.0
        values = calibrated(config.task, image_logits(config, logits), temperature)
        cases = grouping.names[grouping.member].tolist()
        sizes = _range(grouping.sizes)
        said = f"images read: {len(names)}; {config.unit}s: {len(grouping)}, of {sizes} images each"
        return replace(
            whole,
            n_images=grouping.sizes.tolist(),
            ignored=found.ignored,
            of_images=Predictions(names, whole.class_names, _both(config, values), [], cases=cases),
            remarks=[said, *whole.remarks],
        )

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (n, outputs), in float32, of images (n, s, s, c) in the model's own size and type."""
        parts = []
        # `flags` turns cuDNN off unless told otherwise.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in range(0, len(images), BATCH):
                raw = as_tensor(np.ascontiguousarray(images[start : start + BATCH])).to(self.device)
                parts.append(self.module(pixels(raw).contiguous()).float().cpu().numpy())
        return np.concatenate(parts)

    def decide(
        self, names: list[str], logits: NDArray[np.floating], reading: _Reading | None = None
    ) -> Predictions:
        """Calibrated probabilities and predicted classes from logits (n, outputs)."""
        config = self.config
        values = config.calibrated(logits)
        predicted = _predicted(config, values)
        values = _both(config, values)
        unreadable = reading.unreadable if reading else {}
        remarks = reading.remarks() if reading else []
        return Predictions(
            names,
            list(config.class_names),
            values,
            predicted,
            unreadable,
            remarks,
            positive=config.positive,
        )


def load(folder: str | Path, device: str = "cpu") -> Model:
    """Load an exported model.

    Args:
        folder: what `medfathom export` wrote.
        device: "cpu", "cuda:0", …

    Raises:
        ExportedModelError: this is no model folder, or a file in it was changed since the export.
    """
    path = Path(folder)
    return _loaded(path, read_model_folder(path), device)


def load_unsealed(folder: Path, device: str = "cpu") -> Model:
    """Load a model that `confirm` keeps: its folder has no manifest yet, so its files are not verified."""
    return _loaded(folder, read_config(folder), device)


def _loaded(folder: Path, config: ModelConfig, device: str) -> Model:
    if config.heads:
        raise ExportedModelError(
            f"{folder}: a model of several data sets is used by its heads ({', '.join(config.heads)}); "
            f"`{command('export', config.study)}` writes a folder for each"
        )
    return Model(config, read_state(folder, config), device)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _both(config: ModelConfig, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column for each class: of a binary task the first class's too."""
    return np.concatenate([1 - values, values], axis=1) if config.task == "binary" else values


def _range(sizes: NDArray[np.int64]) -> str:
    if not len(sizes):
        return "no"
    return str(sizes[0]) if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"


def network_outputs(config: ModelConfig) -> int:
    """How many outputs the network has: the logits, and with attention a score."""
    return num_outputs(config.task, len(config.class_names)) + (config.combine == "attention")


def image_logits(config: ModelConfig, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits of images, (n, outputs), without what is only of use to combine them."""
    return outputs[:, : num_outputs(config.task, len(config.class_names))]


def _predicted(config: ModelConfig, values: NDArray[np.float64]) -> list[str]:
    names = config.class_names
    if config.task == "multiclass":
        return [names[k] for k in values.argmax(axis=1)]
    above = decide(values, config.thresholds)
    if config.task == "binary":
        return [names[int(flag)] for flag in above[:, 0]]
    return ["|".join(n for n, flag in zip(names, row, strict=True) if flag) for row in above]


def listed(images: Images, choice: Choice) -> tuple[list[Image], list[Ignored]]:
    """All images in one list: a folder becomes its files, a stack its images. And what else folders have."""
    if isinstance(images, str | Path):
        files, ignored = files_or_refused(Path(images), choice)
        return [ImageFile(file) for file in files], ignored
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images], []
    parts = [listed(item, choice) for item in images]
    return [item for items, _ in parts for item in items], [one for _, ignored in parts for one in ignored]


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


class _Reading:
    """Converts images to the model's size, channels and depth, and counts what had to be converted."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._dtype = np.dtype(config.dtype)
        self.unreadable: dict[str, str] = {}
        self._made_grey = self._made_colour = self._made_8_bits = self._made_16_bits = self._resized = 0
        self._dark = 0
        self._stack: tuple[Path, Header] | None = None

    def images(self, items: Iterable[Image]) -> Iterator[tuple[int, str, NDArray[Any]]]:
        """Position, name and pixels (s, s, c) of every readable image, in order."""
        for position, item in enumerate(items):
            if isinstance(item, np.ndarray):
                yield position, str(position), self._from_array(item, position)
                continue
            try:
                yield position, printable(str(item)), self._from_file(item)
            except UnreadableImageError as error:
                self.unreadable[printable(str(item))] = str(error)

    def _from_file(self, file: ImageFile) -> NDArray[Any]:
        config, header = self._config, self._header(file)
        # A model of 8 bits reads deep files too: their upper 8 bits are what it was trained on elsewhere.
        deep = header.deep and self._dtype == np.uint8
        dtype = np.dtype(np.uint16) if deep else self._dtype
        image = FileDecoder(
            config.channels,
            dtype,
            config.bits,
            config.image_size,
            config.fit,
            config.window,
            config.slice_axis,
            config.eye,
        )(file)
        self._count(header)
        self._dark += 0 < image.bits_used <= config.bits - DARK_BELOW
        return (image.pixels >> 8).astype(np.uint8) if deep else image.pixels

    def _header(self, file: ImageFile) -> Header:
        """Of a stack once for all its frames. A tile is cut in the model's size."""
        if file.part is None:
            return read_header(file.path)
        if isinstance(file.part, Tile):
            return Header(self._config.image_size, self._config.image_size, colour=True, deep=False)
        if self._stack is None or self._stack[0] != file.path:
            config = self._config
            self._stack = file.path, read_header(file.path, slice_axis=config.slice_axis, eye=config.eye)
        return self._stack[1]

    def _from_array(self, array: NDArray[Any], position: int) -> NDArray[Any]:
        config = self._config
        image = array[:, :, None] if array.ndim == 2 else array
        if array.dtype not in (np.uint8, np.uint16):
            raise DataError(f"image {position}: dtype must be uint8 or uint16, but got {array.dtype}")
        if image.ndim != 3 or image.shape[2] not in (1, 3) or min(image.shape[:2]) < MIN_SIDE:
            raise DataError(
                f"image {position}: expected (h, w), (h, w, 1) or (h, w, 3) with sides from {MIN_SIDE} on, "
                f"but got shape {array.shape}"
            )
        self._count(Header(image.shape[1], image.shape[0], image.shape[2] == 3, array.dtype == np.uint16))
        image = self._scaled(image, position)
        if image.shape[2] > config.channels:
            # ITU-R 601 luma, as Pillow makes grey.
            grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
            image = np.rint(grey)[:, :, None].astype(image.dtype)
        elif image.shape[2] < config.channels:
            image = np.repeat(image, config.channels, axis=2)
        if image.dtype != self._dtype:
            deep = self._dtype == np.uint16
            image = image.astype(np.uint16) * np.uint16(257) if deep else (image >> 8).astype(np.uint8)
        return fit_square(image, config.image_size, config.fit)

    def _scaled(self, image: NDArray[Any], position: int) -> NDArray[Any]:
        """Raw values scaled as in files: white of the model's `bits` becomes white of 16 bits."""
        try:
            return full_range(image, self._config.bits) if image.dtype == np.uint16 else image
        except UnreadableImageError as error:
            raise DataError(f"image {position}: {error}") from None

    def _count(self, header: Header) -> None:
        config = self._config
        self._made_8_bits += header.deep and self._dtype == np.uint8
        self._made_16_bits += not header.deep and self._dtype == np.uint16
        self._made_grey += header.colour and config.channels == 1
        self._made_colour += not header.colour and config.channels == 3
        self._resized += (header.width, header.height) != (config.image_size, config.image_size)

    def remarks(self) -> list[str]:
        """What was converted, in words."""
        size, white = self._config.image_size, 2**self._config.bits - 1
        counted = [
            (self._made_grey, "converted from colour to grey, as the model was trained on grey images"),
            (
                self._made_colour,
                "converted from grey to three equal channels, as the model was trained on colour images",
            ),
            (
                self._made_8_bits,
                f"converted from 16 bits (white: {white}) to 8, as the model was trained on images of 8 bits",
            ),
            (
                self._made_16_bits,
                "converted from 8 to 16 bits, as the model was trained on images of 16 bits",
            ),
            (
                self._dark,
                f"of 16 bits darker than {white // 2**DARK_BELOW} of {white}: do they use fewer bits than "
                "the model's images?",
            ),
            (self._resized, f"resized to {size} x {size} pixels ({self._config.fit})"),
        ]
        return [f"{number_of(count, 'image')} {text}" for count, text in counted if count]


def predict_files(folder: Path, images: Sequence[Path], device: str, mpp: float | None = None) -> Predictions:
    """Predict files and folders of files, `mpp` as in `Model.predict`.

    Raises InputError for a device that is not there.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"--device {device}: this machine has no such device; cpu always works")
    return load(folder, device).predict(list(images), mpp=mpp)

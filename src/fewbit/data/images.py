"""Samples from a folder of images, with preprocessing presets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from fewbit.data.check import InputInfo
from fewbit.errors import DataError, RecipeError
from fewbit.extras import load_extra

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


class Pipeline(BaseModel):
    """How a picture becomes a model input: resize, crop, colour order, then (x / divide - mean) / std.

    resize: `short` scales the shorter side to size / crop_share, `stretch` ignores the aspect ratio, `letterbox` keeps it
        and fills the rest with `fill`. Sizes come from the model's input; `size` (height, width) is for dynamic inputs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: Literal["short", "stretch", "letterbox", "none"] = "short"
    crop_share: float = 0.875
    size: tuple[int, int] = (224, 224)
    color: Literal["RGB", "BGR", "L"] = "RGB"
    divide: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    fill: int = 114


PRESETS: dict[str, Pipeline] = {
    # torchvision's reference: short side 256, centre 224
    "imagenet": Pipeline(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # TensorFlow's Inception and MobileNet: -1..1
    "inception": Pipeline(divide=127.5, mean=(1.0,)),
    "caffe": Pipeline(color="BGR", divide=1.0, mean=(103.939, 116.779, 123.68)),
    "unit": Pipeline(resize="stretch"),
    "raw": Pipeline(resize="stretch", divide=1.0),
    "gray": Pipeline(resize="stretch", color="L"),
    "yolo": Pipeline(resize="letterbox"),
    "yolox": Pipeline(resize="letterbox", color="BGR", divide=1.0),
}


def find(folder: Path) -> list[Path]:
    """The images of a folder and of its class folders, sorted by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())


def channels_last(shape: Sequence[int | str | None]) -> bool:
    """Whether the channels of an input of images with four axes are on the last one."""
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def pipeline(preprocess: str | Path | None, inputs: Sequence[InputInfo]) -> Pipeline:
    """The preset of that name, or the pipeline of a YAML file.

    Raises:
        RecipeError: no preprocessing was named, or it does not exist. DataError: the model does not take one image.
    """
    if len(inputs) != 1 or (inputs[0].shape is not None and len(inputs[0].shape) != 4):
        raise DataError(
            f"a folder of images feeds a model of one input with four axes; this one takes {', '.join(map(str, inputs))}"
        )
    names = ", ".join(PRESETS)
    if preprocess is None:
        raise RecipeError(
            f"images need to know how the model was trained: give --preprocess with one of {names} or a YAML file"
        )
    if str(preprocess) in PRESETS:
        return PRESETS[str(preprocess)]
    path = Path(preprocess)
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        raise RecipeError(f"preprocessing {str(preprocess)!r} does not exist; use {names} or a YAML file")
    import yaml

    try:
        return Pipeline.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise RecipeError(f"preprocessing {path}: {' '.join(str(error).split())[:300]}") from error


def read(files: Sequence[Path], steps: Pipeline, inputs: Sequence[InputInfo]) -> Iterator[tuple[NDArray[Any], Any]]:
    """One image after another with its label: the number of its class folder in sorted order, where there are several."""
    folders = sorted({p.parent for p in files})
    info = inputs[0]
    shape = info.shape or (None, 3, None, None)
    last = channels_last(shape)
    height, width = (shape[1], shape[2]) if last else (shape[2], shape[3])
    size = (height if isinstance(height, int) else steps.size[0], width if isinstance(width, int) else steps.size[1])
    for path in files:
        array = _prepare(path, steps, size, info)
        yield (
            array[None] if last else array.transpose(2, 0, 1)[None],
            (folders.index(path.parent) if len(folders) > 1 else None),
        )


def _prepare(path: Path, steps: Pipeline, size: tuple[int, int], info: InputInfo) -> NDArray[Any]:
    Image = load_extra("PIL.Image", "reading images")
    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if steps.color == "L" else "RGB")
    except OSError as error:
        raise DataError(f"{path} is not a readable image: {error}") from error
    height, width = size
    if steps.resize == "stretch":
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    elif steps.resize == "short":
        scale = max(height, width) / steps.crop_share / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
    elif steps.resize == "letterbox":
        scale = min(width / picture.width, height / picture.height)
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
        picture = Image.new(picture.mode, (width, height), steps.fill if steps.color == "L" else (steps.fill,) * 3)
        picture.paste(small, (0, 0))
    pixels = np.asarray(picture)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if steps.color == "BGR":
        pixels = pixels[..., ::-1]
    if info.dtype is not None and info.dtype.kind in "iu":
        return pixels.astype(info.dtype)
    real = (pixels.astype(np.float32) / np.float32(steps.divide) - np.asarray(steps.mean, np.float32)) / np.asarray(
        steps.std, np.float32
    )
    return np.ascontiguousarray(real, info.dtype or np.float32)

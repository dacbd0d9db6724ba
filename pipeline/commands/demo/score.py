"""How well labels agree with a known truth, and an image of both."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import metrics
from engine.grid import CELL_PX
from pipeline.commands.demo.scene import CLASS_NAMES, NODATA, PALETTE
from pipeline.durable.files import write_bytes


@dataclass(frozen=True)
class Score:
    """How well labels agree with the truth.

    Parameters
    ----------
    accuracy
        Share of correct pixels, of those with a truth, after labels are matched to classes.
    mean_iou
        Intersection over union, averaged over the classes in the truth.
    matching
        The class that each label is matched to.
    rule
        How labels were matched: "one-to-one" (best possible) or "many-to-one" (each to its commonest class).
    """

    accuracy: float
    mean_iou: float
    matching: dict[int, int]
    rule: str


def score_labels(labels: Path, truth: Path) -> Score:
    """Compare a label file with the truth over the whole raster; a pixel without a label is wrong.

    Parameters
    ----------
    labels, truth
        Rasters of one size, uint8, 255 = nodata.
    """
    import rasterio
    from rasterio.windows import Window as FileWindow

    counts = np.zeros(256 * 256, np.int64)
    with rasterio.open(labels) as first, rasterio.open(truth) as second:
        if (first.shape, first.dtypes[0]) != (second.shape, "uint8"):
            raise ValueError(f"{labels}: {first.dtypes[0]} {first.shape}; it must be uint8 {second.shape}")
        for row in range(0, first.height, CELL_PX):
            strip = FileWindow(0, row, first.width, min(CELL_PX, first.height - row))
            label, true = (file.read(1, window=strip).astype(np.int64) for file in (first, second))
            counts += np.bincount((true * 256 + label).ravel(), minlength=counts.size)
    table = counts.reshape(256, 256)[: len(CLASS_NAMES)]
    used = np.flatnonzero(table[:, :NODATA].any(axis=0))
    one_to_one = len(used) <= len(CLASS_NAMES)
    class_of = metrics.one_to_one(table[:, used].T) if one_to_one else metrics.many_to_one(table[:, used])
    predicted = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES) + 1), np.int64)  # the last have no label
    np.add.at(predicted.T, class_of, table[:, used].T)
    predicted[:, -1] = table[:, NODATA]
    itself = np.arange(len(CLASS_NAMES))
    matching = {int(label): int(c) for label, c in zip(used, class_of, strict=True)}
    iou = metrics.iou(predicted, itself)[predicted.any(axis=1)]
    rule = "one-to-one" if one_to_one else "many-to-one"
    return Score(metrics.accuracy(predicted, itself), float(iou.mean()), matching, rule)


def draw_comparison(image: Path, labels: Path, truth: Path, out: Path, side: int = 700) -> None:
    """Draw scene, labels (in the colours of their file) and truth side by side as PNG, `side` pixels each."""
    import rasterio
    from PIL import Image, ImageDraw
    from rasterio.enums import Resampling

    sheet = Image.new("RGB", (3 * side + 32, side + 32), "white")
    for k, (path, caption) in enumerate(((image, "scene"), (labels, "labels"), (truth, "truth"))):
        with rasterio.open(path) as file:
            shape = tuple(max(1, round(n * side / max(file.shape))) for n in file.shape)
            if k == 0:
                rgb = file.read((1, 2, 3), out_shape=(3, *shape), resampling=Resampling.average)
                panel = Image.fromarray(np.ascontiguousarray(np.moveaxis(rgb, 0, 2)))
            else:
                panel = Image.fromarray(file.read(1, out_shape=shape, resampling=Resampling.nearest), "P")
                colours = file.colormap(1) if k == 1 else {}
                panel.putpalette([v for _, c in sorted(colours.items()) for v in c[:3]] or list(PALETTE))
        sheet.paste(panel.convert("RGB"), (8 + k * (side + 8), 24))
        ImageDraw.Draw(sheet).text((8 + k * (side + 8), 7), caption, "black")
    buffer = io.BytesIO()
    sheet.crop((0, 0, sheet.width, panel.height + 32)).save(buffer, "PNG")
    write_bytes(out, buffer.getvalue())

"""The benchmark raster: an orthophoto of any size, made from a small one and kept in `work`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from pipeline import scene

WORK = Path(__file__).resolve().parent / "work"
"""Where rasters and outputs lie; git ignores it."""

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "rgb"
"""Real rasters, where there are some; without them the built-in scene takes their place."""

_RECIPE = 1  # part of the file name: a change of what is made below needs a new number
_STRIP_PX = 512
_SCENE_PX = 4096

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """A benchmark raster.

    Parameters
    ----------
    path
        The GeoTIFF.
    size_px
        Its sides.
    origin
        Name of what it was made from.
    """

    path: Path
    size_px: int
    origin: str


def photo(size_px: int) -> Photo:
    """The benchmark raster of a size, made when it is first asked for.

    A real orthophoto is mirrored at its edges until the size is filled; slow drifts of brightness keep its
    copies from being equal. Three bands of uint8 in tiles of 512 px, deflate with predictor 2.
    """
    source = _largest(PHOTOS)
    origin = source.stem if source else "scene"
    path = WORK / f"{origin}-{size_px}-{_RECIPE}.tif"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.tif")
        _write(part, size_px, source or _scene())
        part.rename(path)
    return Photo(path, size_px, origin)


def _largest(folder: Path) -> Path | None:
    """The GeoTIFF of three uint8 bands without nodata that has the most pixels; the first among equals."""
    sizes: dict[Path, int] = {}
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as dataset:
            if dataset.dtypes == ("uint8",) * 3 and dataset.nodata is None:
                sizes[path] = dataset.width * dataset.height
    return max(sizes, key=lambda p: sizes[p], default=None)


def _scene() -> Path:
    image = WORK / "scene.tif"
    if not image.exists():
        scene.write_scene(scene.Scene(_SCENE_PX, _SCENE_PX), image, WORK / "scene-truth.tif")
    return image


def _write(path: Path, size_px: int, source: Path) -> None:
    with rasterio.open(source) as dataset:
        pixels = dataset.read()
        grid = {"crs": dataset.crs, "transform": dataset.transform, "width": size_px, "height": size_px}
    storage = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB", "interleave": "pixel"}
    storage |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
    storage |= {"bigtiff": "if_safer", "num_threads": "all_cpus"}
    cols = np.arange(size_px)
    with rasterio.open(path, "w", **grid, **storage) as out:
        for top in range(0, size_px, _STRIP_PX):
            rows = np.arange(top, min(top + _STRIP_PX, size_px))
            out.write(_strip(pixels, rows, cols), window=Window(0, top, size_px, len(rows)))


def _strip(pixels: Pixels, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> Pixels:
    """Rows and columns of the endless photo, shape (3, len(rows), len(cols))."""
    height, width = pixels.shape[1:]
    strip = pixels[:, _mirrored(rows, height)][:, :, _mirrored(cols, width)].astype(np.int16)
    strip += (20 * np.sin(rows / 1700))[:, None].astype(np.int16) + (15 * np.cos(cols / 2300)).astype(
        np.int16
    )
    return np.clip(strip, 0, 255).astype(np.uint8)


def _mirrored(index: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)

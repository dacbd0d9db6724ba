"""The benchmark raster: an orthophoto of any size, made from a small one and kept in `work`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from pipeline.commands.demo import scene

WORK = Path(__file__).resolve().parent / "work"
"""Where rasters and outputs lie; git ignores it."""

ROOT = Path(__file__).resolve().parent.parent

_SHARED = ROOT.parent / "shared" / "data"

PHOTOS = _SHARED / "rgb"
"""Real rasters, where there are some; without them the built-in scene takes their place."""

NETWORKS = _SHARED / "models" / "legacy"
"""The old system's networks, where they are; without them others of their shape take their place."""

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


def photo(size_px: int, *, built_in: bool = False, grain: int = 0) -> Photo:
    """The benchmark raster of a size, made when it is first asked for.

    A real orthophoto is mirrored at its edges until the size is filled; slow drifts of brightness keep its
    copies from being equal. Three bands of uint8 in tiles of 512 px, deflate with predictor 2.

    Parameters
    ----------
    size_px
        Its sides.
    built_in
        Make it from the built-in scene also where there are real ones: the same everywhere.
    grain
        Grey levels up to which even noise is added to or taken from each value, as a sensor does.
    """
    source = None if built_in else _largest(PHOTOS)
    origin = (source.stem if source else "scene") + (f"-grain-{grain}" if grain else "")
    path = WORK / f"{origin}-{size_px}-{_RECIPE}.tif"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.tif")
        _write(part, size_px, source or _scene(), grain)
        part.rename(path)
    return Photo(path, size_px, origin)


def labels(photo: Photo) -> Path:
    """Labels of a benchmark raster at full resolution, made by a run when they are first asked for."""
    path = photo.path.with_name(f"labels-{photo.path.name}")
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=WORK) as out:
            options = ["--segments", "8", "--resolution", "1", "--progress", "none"]
            line = [sys.executable, "-m", "pipeline", "run", photo.path, "-o", out, *options]
            subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            (Path(out) / photo.path.name).rename(path)
    return path


def network(stride_px: int, *, built_in: bool = False) -> Path:
    """A network of the old system's shape.

    Parameters
    ----------
    stride_px
        4, 8 or 16.
    built_in
        One with random weights also where there are the old system's own: the same everywhere.
    """
    name = f"model_{stride_px}.pth"
    if not built_in and (NETWORKS / name).exists():
        return NETWORKS / name
    path = WORK / f"random-{name}"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        line = [sys.executable, "-m", "benchmarks.races.random_network", str(stride_px), part]
        subprocess.run(line, cwd=ROOT, check=True)
        part.rename(path)
    return path


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


def _write(path: Path, size_px: int, source: Path, grain: int) -> None:
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
            strip = _strip(pixels, rows, cols)
            if grain:
                noise = np.random.default_rng(top).integers(-grain, grain + 1, strip.shape, np.int16)
                strip = np.clip(strip + noise, 0, 255).astype(np.uint8)
            out.write(strip, window=Window(0, top, size_px, len(rows)))


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

"""The old system's way, as the baseline: the whole raster in memory, K-Means, GDAL's COG driver.

K-Means is over blocks of pixels, or over the features of a network on tiles that do not overlap.

Written from the description of that system, for its speed and memory. Where the description leaves a
choice, the faster or smaller one was taken: pixels stay uint8 until they are assigned, the file is written
with all cores. Its faults that cost no time are not copied: the sample is seeded, and a raster is padded
only where its last block is cut. Like the old system it knows no nodata. Labels of a network's features are
taken as they are: the old system went on to compare each with its neighbours', which took longer.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Features = U8 | F32

_SAMPLE = 10_000
_SAMPLE_AT_LEAST = 200
_TILE_PX = 512


def segment(pixels: U8, segments: int, resolution: int, seed: int = 0) -> U8:
    """Labels of a raster in memory.

    Parameters
    ----------
    pixels
        Shape (band, y, x).
    segments
        K, at most 255.
    resolution
        Side of a block in pixels; a block's feature is all its values.

    Returns
    -------
    numpy.ndarray
        Shape (y, x), labels 0 to K - 1 in ascending order of their centres' means.
    """
    height, width = pixels.shape[1:]
    features = block_features(pixels, resolution)
    rows, cols = -(-height // resolution), -(-width // resolution)
    labels = assign(features, fit(features, segments, seed)).reshape(rows, cols)
    return labels.repeat(resolution, 0)[:height].repeat(resolution, 1)[:, :width]


def segment_cnn(pixels: U8, segments: int, model: Path, seed: int = 0) -> U8:
    """Labels of a raster in memory, by a network's features.

    Parameters
    ----------
    pixels
        Shape (3, y, x).
    segments
        K, at most 255.
    model
        TorchScript file; ``forward`` gives features (1, D, h, w), or a tuple that ends with them.

    Returns
    -------
    numpy.ndarray
        Shape (y, x), labels 0 to K - 1 in ascending order of their centres' means.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated; it still loads
        network = torch.jit.load(str(model)).eval()
    _, height, width = pixels.shape
    down, across = -(-height // _TILE_PX), -(-width // _TILE_PX)
    pixels = np.pad(pixels, ((0, 0), (0, -height % _TILE_PX), (0, -width % _TILE_PX)))
    found = []
    with torch.inference_mode():
        for row in range(0, down * _TILE_PX, _TILE_PX):
            for col in range(0, across * _TILE_PX, _TILE_PX):
                tile = pixels[:, row : row + _TILE_PX, col : col + _TILE_PX].astype(np.float32) / 255
                out = network(torch.from_numpy(tile)[None])
                out = out[-1] if isinstance(out, tuple) else out
                found.append(out[0].permute(1, 2, 0).contiguous().numpy())
    side = found[0].shape[0]
    features = np.concatenate([f.reshape(side * side, -1) for f in found])
    del found
    labels = assign(features, fit(features, segments, seed)).reshape(down, across, side, side)
    # a tile's features are stretched over it
    place = np.arange(_TILE_PX) * side // _TILE_PX
    whole = labels[:, :, place][:, :, :, place].swapaxes(1, 2).reshape(pixels.shape[1:])
    return whole[:height, :width]


def block_features(pixels: U8, resolution: int) -> U8:
    """All values of each block, shape (blocks, band * resolution * resolution), blocks by rows."""
    bands, height, width = pixels.shape
    r = resolution
    if height % r or width % r:
        pixels = np.pad(pixels, ((0, 0), (0, -height % r), (0, -width % r)))
        bands, height, width = pixels.shape
    blocks = pixels.reshape(bands, height // r, r, width // r, r).transpose(1, 3, 0, 2, 4)
    return blocks.reshape(-1, bands * r * r)


def fit(features: Features, segments: int, seed: int) -> F32:
    """K-Means centres of a sample drawn with replacement, in ascending order of their means."""
    from sklearn.cluster import KMeans

    count = max(_SAMPLE_AT_LEAST, min(len(features), _SAMPLE))
    chosen = np.random.default_rng(seed).integers(0, len(features), count)
    model = KMeans(segments, random_state=seed).fit(features[chosen].astype(np.float32))
    centres: F32 = model.cluster_centers_.astype(np.float32)
    return centres[np.argsort(centres.mean(1), kind="stable")]


def assign(features: Features, centres: F32) -> U8:
    """Index of each feature's nearest centre, from ``|x|^2 - 2 x c + |c|^2``, chunk by chunk."""
    labels = np.empty(len(features), np.uint8)
    norms = (centres**2).sum(1)
    for chunk in _chunks(len(features), len(centres)):
        x = features[chunk].astype(np.float32)
        distances = (x**2).sum(1)[:, None] - 2 * (x @ centres.T) + norms
        labels[chunk] = distances.argmin(1)
    return labels


def _chunks(count: int, segments: int) -> Iterator[slice]:
    side = max(2048, 262_144 // max(1, segments // 8))
    return (slice(start, start + side) for start in range(0, count, side))


def run(source: Path, out: Path, segments: int, resolution: int, model: Path | None = None) -> None:
    """Read a raster, label it, write a COG."""
    import rasterio

    with rasterio.open(source) as dataset:
        pixels: Any = dataset.read()
        profile = {"crs": dataset.crs, "transform": dataset.transform}
    labels = segment_cnn(pixels, segments, model) if model else segment(pixels, segments, resolution)
    profile |= {"driver": "COG", "dtype": "uint8", "count": 1}
    profile |= {"height": labels.shape[0], "width": labels.shape[1]}
    profile |= {"compress": "deflate", "num_threads": "all_cpus", "overview_resampling": "nearest"}
    with rasterio.open(out, "w", **profile) as dataset:
        dataset.write(labels, 1)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races.old_system", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=4)
    parser.add_argument("--model", type=Path, help="TorchScript file of a network, in place of blocks")
    arguments = parser.parse_args()
    run(arguments.source, arguments.out, arguments.segments, arguments.resolution, arguments.model)


if __name__ == "__main__":
    main()

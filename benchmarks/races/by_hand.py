"""What a good engineer writes by hand: rioxarray, Dask and scikit-learn, in a few dozen lines.

`python -m benchmarks.races.by_hand rioxarray|odc-geo RASTER OUT`. Nothing is kept of what makes the task
hard: no resume, no nodata, labels that depend on the order of the centres. What rioxarray writes as a COG
straight from Dask has empty overviews (rioxarray#410), so the labels go through a plain GeoTIFF; odc-geo
writes COGs.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

_CHUNK_PX = 2048
_SAMPLE_PX = 512
_SAMPLES = 16


def labels_of(source: Path, segments: int) -> Any:
    """Labels of a raster, lazily, with its grid; centres from windows here and there."""
    import rioxarray
    import xarray as xr
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    chunks = {"band": -1, "y": _CHUNK_PX, "x": _CHUNK_PX}
    image: Any = rioxarray.open_rasterio(source, chunks=chunks, lock=False)
    rng = np.random.default_rng(0)
    windows = []
    for _ in range(_SAMPLES):
        y, x = (int(rng.integers(0, max(1, n - _SAMPLE_PX))) for n in image.shape[1:])
        window = image[:, y : y + _SAMPLE_PX, x : x + _SAMPLE_PX]
        windows.append(window.values.reshape(len(image), -1)[:, ::16])
    sample = np.concatenate(windows, axis=1).T.astype(np.float32)
    model = KMeans(segments, n_init=8, random_state=0).fit(sample)

    def predict(block: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        # bands come last here; scikit-learn's own threads would fight with Dask's
        with threadpool_limits(1):
            found = model.predict(block.reshape(-1, block.shape[-1]).astype(np.float32))
        return np.asarray(found).astype(np.uint8).reshape(block.shape[:-1])

    return xr.apply_ufunc(
        predict, image, input_core_dims=[["band"]], dask="parallelized", output_dtypes=[np.uint8]
    )


def with_rioxarray(labels: Any, out: Path, threads: int) -> None:
    """Chunk by chunk into a tiled GeoTIFF, then GDAL's COG driver."""
    import rasterio.shutil

    plain = out.with_suffix(".plain")
    storage = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    labels.rio.to_raster(plain, driver="GTiff", lock=threading.Lock(), bigtiff="if_safer", **storage)
    rasterio.shutil.copy(plain, out, driver="COG", compress="deflate", num_threads=str(threads))
    plain.unlink()


def with_odc_geo(labels: Any, out: Path, _threads: int) -> None:
    """Straight from Dask into a COG."""
    import odc.geo.xr  # noqa: F401  (registers the .odc accessor)
    from odc.geo.cog import save_cog_with_dask

    options = {"compression": "deflate", "blocksize": 512, "overview_resampling": "nearest"}
    save_cog_with_dask(labels, str(out), **options).compute()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races.by_hand", description=__doc__)
    parser.add_argument("writer", choices=["rioxarray", "odc-geo"])
    parser.add_argument("raster", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    write = {"rioxarray": with_rioxarray, "odc-geo": with_odc_geo}[given.writer]
    with dask.config.set(scheduler="threads", num_workers=given.threads):
        write(labels_of(given.raster, given.segments), given.out, given.threads)


if __name__ == "__main__":
    main()

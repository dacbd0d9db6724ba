"""The sinks alone: labels in memory become a finished COG, by ours or by GDAL's own driver.

`python -m benchmarks.parts.sinks ours|gdal LABELS OUT` takes the labels of a file. Both write all overviews;
ours syncs what it writes, GDAL leaves that to the system, and takes the nearest label where ours takes the
mode.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import clock
from benchmarks.races.floors import resident

_CHUNK_PX = 2048


def ours(source: Path, out: Path, threads: int) -> None:
    """Time our sink, in a folder beside the file that it makes."""
    from engine.kernel import NODATA
    from pipeline.legend.label_style import LabelStyle
    from pipeline.sinks import parts
    from pipeline.sinks.label_info import LabelInfo
    from pipeline.sinks.pyramid import stages
    from pipeline.sinks.sink import sink_of
    from pipeline.source.gdal.raster import open_header

    labels = resident(source)
    place = open_header(source).georeference
    meaning = LabelInfo(place, "", "", LabelStyle.of(int(labels[labels != NODATA].max()) + 1))
    sink, plan = sink_of(out.name), stages(*labels.shape, _CHUNK_PX)
    first = plan[0]

    def write() -> None:
        folder = Path(tempfile.mkdtemp(dir=out.parent))

        def unit(unit: tuple[int, int]) -> None:
            part = np.ascontiguousarray(labels[first.window(unit).slices()])
            sink.write_unit(folder, first, unit, part)

        clock.on_threads(unit, first.units(), threads)
        for below, stage in pairwise(plan):
            for above in stage.units():
                merged = parts.merged_remnants(folder, stage, above, below)
                sink.write_unit(folder, stage, above, merged)
        sink.assemble(folder, plan, meaning)
        for name in sink.files:
            (folder / name).rename(out.parent / name)
        shutil.rmtree(folder)

    clock.tell(clock.best(write, labels.size))


def gdal(source: Path, out: Path, threads: int) -> None:
    """Time GDAL's COG driver, as rasterio gives it labels in memory."""
    import rasterio

    labels = resident(source)
    with rasterio.open(source) as dataset:
        profile = {"crs": dataset.crs, "transform": dataset.transform, "nodata": 255}
    profile |= {"driver": "COG", "dtype": "uint8", "count": 1, "compress": "deflate", "blocksize": 512}
    profile |= {"height": labels.shape[0], "width": labels.shape[1], "num_threads": str(threads)}
    profile |= {"overview_resampling": "nearest"}

    def write() -> None:
        with rasterio.open(out, "w", **profile) as dataset:
            dataset.write(labels, 1)

    clock.tell(clock.best(write, labels.size))


def main() -> None:
    """Parse the command line, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts.sinks", description=__doc__)
    parser.add_argument("sink", choices=["ours", "gdal"])
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path, help="the .tif to make")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    {"ours": ours, "gdal": gdal}[given.sink](given.labels, given.out, given.threads)


if __name__ == "__main__":
    main()

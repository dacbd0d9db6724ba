"""VRTs beside a Zarr store for what GDAL does not read from it: colours, names, overviews, Zarr shards.

A VRT names its sources relative to itself, so it stays valid when it is moved together with the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import NODATA
from pipeline.grid.georeference import Georeference
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.pyramid import TILE_PX
from pipeline.sinks.style import statistics


def labels_vrt(
    label_info: LabelInfo, shape: tuple[int, int], counts: npt.NDArray[np.int64], levels: list[str]
) -> str:
    """A VRT that QGIS shows styled: with palette, names, statistics and overviews.

    Parameters
    ----------
    label_info
        Georeference, provenance and style.
    shape
        (height, width) of full resolution.
    counts
        Pixels of each label, shape (256,).
    levels
        For each level the file that GDAL opens, relative to the VRT.
    """
    style, bounds = label_info.style, Window(0, 0, *shape)
    colours = "".join(f'      <Entry c1="{r}" c2="{g}" c3="{b}" c4="255"/>\n' for r, g, b in style.colours)
    names = "".join(f"      <Category>{escape(n)}</Category>\n" for n in style.names)
    overviews = "".join(
        f"    <Overview>\n{_file(level, '      ')}      <SourceBand>1</SourceBand>\n    </Overview>\n"
        for level in levels[1:]
    )
    items = {
        "AREA_OR_POINT": label_info.georeference.area_or_point,
        "TILEWRIGHT_CODEBOOK": label_info.codebook_hash,
        "TILEWRIGHT_KERNEL": label_info.kernel,
    }
    return "".join(
        (
            _head(shape),
            _georeference(label_info.georeference),
            _metadata(items, "  "),
            _BAND,
            _metadata(statistics(counts), "    "),
            f"    <ColorInterp>Palette</ColorInterp>\n    <ColorTable>\n{colours}    </ColorTable>\n",
            f"    <CategoryNames>\n{names}    </CategoryNames>\n",
            _source(levels[0], bounds),
            overviews,
            _TAIL,
        )
    )


def mosaic_vrt(shape: tuple[int, int], files: Iterable[tuple[str, Window]]) -> Iterator[str]:
    """Fragments of the text of a VRT that puts files side by side.

    Parameters
    ----------
    shape
        (height, width) of the whole.
    files
        Name and window of each file; pixels without a file are nodata.
    """
    yield _head(shape) + _BAND
    for file, window in files:
        yield _source(file, window)
    yield _TAIL


_BAND = (
    f'  <VRTRasterBand dataType="Byte" band="1" blockXSize="{TILE_PX}" blockYSize="{TILE_PX}">\n'
    f"    <NoDataValue>{NODATA}</NoDataValue>\n"
)
_TAIL = "  </VRTRasterBand>\n</VRTDataset>\n"


def _head(shape: tuple[int, int]) -> str:
    return f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}">\n'


def _file(name: str, indent: str) -> str:
    return f'{indent}<SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename>\n'


def _source(name: str, window: Window) -> str:
    """All of a file, at a window. Because its properties are listed, GDAL opens it only to read pixels."""
    size = f'xSize="{window.width}" ySize="{window.height}"'
    return (
        f"    <SimpleSource>\n{_file(name, '      ')}      <SourceBand>1</SourceBand>\n"
        f'      <SourceProperties RasterXSize="{window.width}" RasterYSize="{window.height}" DataType="Byte" '
        f'BlockXSize="{TILE_PX}" BlockYSize="{TILE_PX}"/>\n'
        f'      <SrcRect xOff="0" yOff="0" {size}/>\n'
        f'      <DstRect xOff="{window.col}" yOff="{window.row}" {size}/>\n    </SimpleSource>\n'
    )


def _metadata(items: dict[str, str], indent: str, domain: str = "") -> str:
    lines = "".join(
        f"{indent}  <MDI key={quoteattr(k)}>{escape(v)}</MDI>\n" for k, v in sorted(items.items())
    )
    of_domain = f" domain={quoteattr(domain)}" if domain else ""
    return f"{indent}<Metadata{of_domain}>\n{lines}{indent}</Metadata>\n" if items else ""


def _georeference(georeference: Georeference) -> str:
    wkt = georeference.crs_wkt or ""
    rpcs = _metadata(dict(georeference.rpcs), "  ", domain="RPC")
    if georeference.gcps:
        points = "".join(
            f'    <GCP Id="{i}" Pixel="{p.col!r}" Line="{p.row!r}" X="{p.x!r}" Y="{p.y!r}" Z="{p.z!r}"/>\n'
            for i, p in enumerate(georeference.gcps, 1)
        )
        return f"  <GCPList Projection={quoteattr(wkt)}>\n{points}  </GCPList>\n{rpcs}"
    text = f"  <SRS>{escape(wkt)}</SRS>\n" if wkt else ""
    if (geotransform := georeference.geotransform) is not None:
        text += f"  <GeoTransform>{', '.join(map(repr, geotransform))}</GeoTransform>\n"
    return text + rpcs

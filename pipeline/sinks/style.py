"""Statistics of labels, and the sidecars by which QGIS shows their colours and names."""

from __future__ import annotations

import io
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from engine.colours import to_hex
from pipeline.legend.label_style import LabelStyle
from pipeline.process.warning_filters import ignored


def statistics(histogram: npt.NDArray[np.int64]) -> dict[str, str]:
    """GDAL's band statistics of labels, exact, from the count of each value (256,)."""
    counts = histogram[:255].astype(np.float64)
    total = counts.sum()
    if total == 0:
        return {}
    values = np.arange(255)
    mean = float((counts * values).sum() / total)
    deviation = float(np.sqrt((counts * (values - mean) ** 2).sum() / total))
    present = np.flatnonzero(counts)
    return {
        "STATISTICS_MAXIMUM": str(present[-1]),
        "STATISTICS_MEAN": f"{mean:.12g}",
        "STATISTICS_MINIMUM": str(present[0]),
        "STATISTICS_STDDEV": f"{deviation:.12g}",
        "STATISTICS_VALID_PERCENT": f"{100 * total / histogram.sum():.4g}",
    }


def aux_xml(style: LabelStyle, histogram: npt.NDArray[np.int64], crs_wkt: str | None) -> str:
    """The .aux.xml beside a COG: category names and an attribute table, for which TIFF has no tags.

    Parameters
    ----------
    style
        Of the labels.
    histogram
        Pixels of each label, shape (256,).
    crs_wkt
        The CRS, if GeoTIFF tags cannot hold it exactly; else None.
    """
    names = "".join(f"      <Category>{escape(n)}</Category>\n" for n in style.names)
    columns = (
        ("Value", 0, 5),
        ("Count", 0, 1),
        ("Red", 0, 6),
        ("Green", 0, 7),
        ("Blue", 0, 8),
        ("Class", 2, 2),
    )
    fields = "".join(
        f'      <FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type>'
        f"<Usage>{usage}</Usage></FieldDefn>\n"
        for i, (name, kind, usage) in enumerate(columns)
    )
    rows = "".join(
        f'      <Row index="{i}"><F>{i}</F><F>{histogram[i]}</F><F>{c[0]}</F><F>{c[1]}</F><F>{c[2]}</F>'
        f"<F>{escape(n)}</F></Row>\n"
        for i, (c, n) in enumerate(zip(style.colours, style.names, strict=True))
    )
    srs = f"  <SRS>{escape(crs_wkt)}</SRS>\n" if crs_wkt else ""
    return (
        f'<PAMDataset>\n{srs}  <PAMRasterBand band="1">\n    <CategoryNames>\n{names}    </CategoryNames>\n'
        f'    <GDALRasterAttributeTable tableType="thematic">\n{fields}{rows}'
        "    </GDALRasterAttributeTable>\n"
        "  </PAMRasterBand>\n</PAMDataset>\n"
    )


def qml(style: LabelStyle) -> str:
    """A QGIS layer style (.qml): paletted renderer with colours and names, nodata transparent."""
    entries = "".join(
        f'        <paletteEntry value="{i}" color="{to_hex(colour)}" alpha="255" label={quoteattr(n)}/>\n'
        for i, (colour, n) in enumerate(zip(style.colours, style.names, strict=True))
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">\n  <pipe>\n'
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"      <colorPalette>\n{entries}      </colorPalette>\n    </rasterrenderer>\n"
        "  </pipe>\n  <blendMode>0</blendMode>\n</qgis>\n"
    )


def quicklook(labels: Path, style: LabelStyle, side: int = 1024) -> bytes:
    """A small image of a label file as PNG bytes, read from an overview; nodata is transparent."""
    import rasterio
    from PIL import Image
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning

    with ignored(NotGeoreferencedWarning), rasterio.open(labels) as dataset:
        step = max(1, -(-max(dataset.shape) // side))
        shape = (max(1, dataset.height // step), max(1, dataset.width // step))
        small = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    image = Image.fromarray(small, "P")
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(style.colours)] = style.colours
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=255, compress_level=3)
    return buffer.getvalue()

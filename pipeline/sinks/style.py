"""Colours, names and statistics of labels, and the sidecars by which QGIS shows them."""

from __future__ import annotations

import colorsys
import io
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from engine import spacing
from pipeline.process.warning_filters import ignored

Colour = tuple[int, int, int]

# Tol's "muted" and "bright" qualitative schemes, distinct to colour-blind people too
# (P. Tol, "Colour schemes", SRON technical note, 2021); further labels take hues around the circle.
_FIRST: tuple[Colour, ...] = (
    (51, 34, 136), (136, 204, 238), (68, 170, 153), (17, 119, 51), (153, 153, 51), (221, 204, 119),
    (204, 102, 119), (136, 34, 85), (170, 68, 153), (68, 119, 170), (238, 102, 119), (102, 204, 238),
)  # fmt: skip


@dataclass(frozen=True)
class LabelStyle:
    """Colours and names of labels 0 to K - 1.

    Parameters
    ----------
    colours
        (red, green, blue) of each label.
    names
        Name of each label.
    """

    colours: tuple[Colour, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, segments: int, names: tuple[str, ...] = ()) -> LabelStyle:
        """The default style of K labels, with their names if they have any; no colour depends on K."""
        colours = tuple(_colour(i) for i in range(segments))
        return cls(colours, names or tuple(f"Segment {i}" for i in range(segments)))


def _colour(label: int) -> Colour:
    if label < len(_FIRST):
        return _FIRST[label]
    n = label - len(_FIRST)
    red, green, blue = colorsys.hls_to_rgb(
        n * spacing.ALONG % 1, (0.42, 0.62, 0.75)[n % 3], (0.75, 0.5)[n // 3 % 2]
    )
    return round(red * 255), round(green * 255), round(blue * 255)


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
        f'        <paletteEntry value="{i}" color="#{r:02x}{g:02x}{b:02x}" alpha="255" '
        f"label={quoteattr(n)}/>\n"
        for i, ((r, g, b), n) in enumerate(zip(style.colours, style.names, strict=True))
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

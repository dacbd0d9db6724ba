"""What QGIS makes of a label file, as JSON; run by the Python that QGIS is installed for, not by ours.

look.py LABELS INPUT COL,ROW,WIDTH,HEIGHT WINDOW.png WHOLE.png

The window of LABELS is rendered with one pixel of the picture for each pixel of the raster, the whole raster
as large as a screen would show it. Both pictures are transparent where QGIS draws nothing.
"""

import json
import os
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QSize, Qt

WHOLE_PX = 400


def describe(layer):
    renderer, extent, provider = layer.renderer(), layer.extent(), layer.dataProvider()
    classes = renderer.classes() if isinstance(renderer, QgsPalettedRasterRenderer) else []
    return {
        "valid": layer.isValid(),
        "renderer": renderer.type(),
        "classes": [[int(c.value), list(c.color.getRgb()), c.label] for c in classes],
        "table": [[int(e.value), list(e.color.getRgb())] for e in provider.colorTable(1)],
        "crs": layer.crs().authid() or layer.crs().toWkt(),
        "extent": [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()],
        "size": [layer.width(), layer.height()],
        "bands": layer.bandCount(),
        "nodata": provider.sourceNoDataValue(1) if provider.sourceHasNoDataValue(1) else None,
        "pyramids": [[p.xDim, p.yDim] for p in provider.buildPyramidList() if p.exists],
    }


def render(layer, extent, width, height, png):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(extent)
    settings.setOutputSize(QSize(width, height))
    settings.setBackgroundColor(Qt.transparent)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    if job.errors() or not job.renderedImage().save(png):
        sys.exit(f"{png}: not rendered: {[e.message for e in job.errors()]}")


def main(labels, source, window, window_png, whole_png):
    layer, given = QgsRasterLayer(labels, "labels"), QgsRasterLayer(source, "input")
    found = {"labels": describe(layer), "input": describe(given), "same_crs": layer.crs() == given.crs()}
    if layer.isValid():
        col, row, width, height = (int(v) for v in window.split(","))
        whole, dx, dy = layer.extent(), layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY()
        left, top = whole.xMinimum() + col * dx, whole.yMaximum() - row * dy
        render(
            layer, QgsRectangle(left, top - height * dy, left + width * dx, top), width, height, window_png
        )
        scale = WHOLE_PX / max(layer.width(), layer.height())
        render(layer, whole, round(layer.width() * scale), round(layer.height() * scale), whole_png)
    print(json.dumps(found), flush=True)  # noqa: T201  (the test reads it)


if __name__ == "__main__":
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    main(*sys.argv[1:])
    # without a teardown: QGIS 3.22 crashes now and then when Python has freed its layers first
    os._exit(0)

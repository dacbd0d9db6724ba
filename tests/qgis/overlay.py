"""What of a label file lies under polygons, as QGIS places both; run by the Python of QGIS.

overlay.py LABELS POLYGONS ...

Prints for each pair how many of a grid of points within the polygons have no label, and how many of those
around them have one, as shares. Points within a 50th of a side from an edge do not count: QGIS warps
rasters that are not upright, to an eighth of a pixel.
"""

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsCoordinateTransform,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
    QgsWkbTypes,
)

STEPS = 12


def shares(labels, polygons):
    raster, vector = QgsRasterLayer(labels, "labels"), QgsVectorLayer(polygons, "bad", "ogr")
    assert raster.isValid(), labels
    assert vector.isValid(), polygons
    # as the map does it: a raster without a CRS stays where it is
    onto = QgsCoordinateTransform(vector.crs(), raster.crs(), QgsProject.instance())
    inside, around = [], []
    for feature in vector.getFeatures():
        shape = feature.geometry()
        shape.transform(onto)
        outline = shape.convertToType(QgsWkbTypes.LineGeometry)
        box = shape.boundingBox()
        edge = min(box.width(), box.height()) / STEPS
        box.grow(edge)
        for i in range(STEPS):
            for j in range(STEPS):
                x = box.xMinimum() + (i + 0.5) / STEPS * box.width()
                y = box.yMinimum() + (j + 0.5) / STEPS * box.height()
                if outline.distance(QgsGeometry.fromPointXY(QgsPointXY(x, y))) < edge * STEPS / 50:
                    continue
                found, _ = raster.dataProvider().sample(QgsPointXY(x, y), 1)[::-1]
                (inside if shape.contains(QgsPointXY(x, y)) else around).append(found)
    return {
        "features": vector.featureCount(),
        "reasons": [f["reason"] for f in vector.getFeatures()],
        "inside": 1 - sum(inside) / len(inside),
        "around": sum(around) / len(around),
    }


application = QgsApplication([], False)
application.initQgis()
pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
sys.stdout.write(json.dumps([shares(*pair) for pair in pairs]))
application.exitQgis()

"""CRSs as different programs write them."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.grid.crs import other_crs, same_crs
from pipeline.running.run import run
from tests.rasters import noise


def spellings(code):
    """One CRS in the words of GDAL, PROJ and Esri, with the axes of the authority and without."""
    crs, wkt = pyproj.CRS.from_epsg(code), CRS.from_epsg(code).to_wkt()
    gdal = crs.to_wkt("WKT1_GDAL")
    texts = [wkt, gdal, *map(crs.to_wkt, ("WKT1_ESRI", "WKT2_2015", "WKT2_2019"))]
    texts.append(re.sub(r',AXIS\["[^"]*",\w+\]', "", gdal))
    texts.append(re.sub(r',AUTHORITY\["EPSG","\d+"\](?=\]$)', "", gdal))
    texts.append(CRS.from_epsg(code).to_wkt(version="WKT1_ESRI"))
    # as a GeoTIFF and an .aux.xml have it
    return list(dict.fromkeys([*texts, *(CRS.from_wkt(text).to_wkt() for text in texts)]))


@pytest.mark.parametrize(
    "code", [2193, 3035, 31467, 2180, 3006, 4326, 4258, 32632, 25832, 3857, 5514, 28992, 2056]
)
def test_a_crs_is_the_same_whatever_program_wrote_it(code):
    different = [(a, b) for a, b in itertools.combinations(spellings(code), 2) if not same_crs(a, b)]
    assert not different


DIFFERENT = [
    (2193, 27200, "the datum is New Zealand Geodetic Datum 2000, not New Zealand Geodetic Datum 1949"),
    (32632, 32633, "the longitude of natural origin is 9, not 15"),
    (32632, 25832, "the datum is World Geodetic System 1984, not European Terrestrial Reference System 1989"),
    (3035, 3034, "the projection is Lambert Azimuthal Equal Area, not Lambert Conic Conformal (2SP)"),
    (2263, 32118, "the unit is US survey foot, not metre"),
    (4326, 32632, "the kind is Geographic CRS, not Projected CRS"),
]


@pytest.mark.parametrize(("one", "other", "said"), DIFFERENT)
def test_crss_that_differ_are_told_apart_with_the_reason(one, other, said):
    for mine, theirs in itertools.product(spellings(one)[:3], spellings(other)[:3]):
        assert not same_crs(mine, theirs)
    found = other_crs(CRS.from_epsg(one).to_wkt(), CRS.from_epsg(other).to_wkt())
    assert found == f"its CRS is EPSG:{one}, not EPSG:{other}: {said}"


def test_crss_of_one_name_are_told_apart_too():
    wkt = CRS.from_epsg(2193).to_wkt()
    other = wkt.replace('"false_easting",1600000', '"false_easting",1600001')
    assert other != wkt
    assert not same_crs(wkt, other)
    assert other_crs(other, wkt).endswith(": the false easting is 1600001, not 1600000")
    assert other_crs(None, wkt) == "its CRS is none, not EPSG:2193"
    assert not same_crs('LOCAL_CS["a",UNIT["metre",1]]', 'LOCAL_CS["b",UNIT["foot",0.3048]]')


@pytest.mark.parametrize("code", [2193, 3035])
def test_tiles_and_bands_of_programs_that_write_a_crs_in_other_words_are_joined(tmp_path, code):
    files = []
    for number, wkt in enumerate((spellings(code)[0], pyproj.CRS.from_epsg(code).to_wkt("WKT1_ESRI"))):
        place = from_origin(1600000 + 64 * number, 5500000, 1, 1)
        # an .img keeps the words of its CRS
        files.append(str(tmp_path / f"{number}.img"))
        profile = {"driver": "HFA", "width": 64, "height": 64, "count": 1, "dtype": "uint8"}
        with rasterio.open(files[-1], "w", crs=CRS.from_wkt(wkt), transform=place, **profile) as dataset:
            dataset.write(noise(1, 64, 64, seed=number))
    options = {"segments": 3, "workers": "1", "sources": tuple(files), "mosaic": True}
    assert not run(RunConfig(out=str(tmp_path / "o"), **options)).failed
    with rasterio.open(tmp_path / "o" / "mosaic.tif") as dataset:
        assert (dataset.width, np.count_nonzero(dataset.read(1) == 255)) == (128, 0)
        assert same_crs(dataset.crs.to_wkt(), CRS.from_epsg(code).to_wkt())
    assert main(["verify", str(tmp_path / "o")]) == 0

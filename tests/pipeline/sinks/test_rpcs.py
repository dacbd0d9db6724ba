"""Rational polynomial coefficients of a raster are those of its labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

import pipeline
from pipeline.cli import main
from pipeline.source.gdal.raster import open_header
from pipeline.source.opening import open_segmentable
from tests.rasters import PLACE, noise, write_geotiff

RPCS = RPC(
    height_off=100.5,
    height_scale=500.0,
    lat_off=50.123456789012345,
    lat_scale=0.1,
    line_den_coeff=[1.0, *(1e-5 / 3 * i for i in range(1, 20))],
    line_num_coeff=[0.001, 0.02, -1.1, *(1e-5 / 7 * i for i in range(17))],
    line_off=150.25,
    line_scale=151.0,
    long_off=10.0,
    long_scale=0.15,
    samp_den_coeff=[1.0, *[0.0] * 19],
    samp_num_coeff=[0.002, 1.2, -0.03, *[1e-4] * 17],
    samp_off=160.0,
    samp_scale=161.0,
    err_bias=0.5,
    err_rand=0.25,
)
PIXELS = noise(1, 300, 320, seed=5)
NOWHERE = {"crs": None, "transform": rasterio.Affine.identity()}


@pytest.fixture(params=["alone", "with a transform"])
def source(request, tmp_path):
    place = PLACE if request.param != "alone" else NOWHERE
    return write_geotiff(tmp_path / "scene.tif", PIXELS, rpcs=RPCS, **place)


def rpcs(path):
    with rasterio.open(path) as dataset:
        return dataset.rpcs.to_dict()


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_labels_have_the_rpcs_of_their_raster(source, tmp_path, form):
    out = tmp_path / "out"
    options = ["--segments", "3", "--progress", "none", "--format", form]
    assert main(["run", str(source), "-o", str(out), *options]) == 0
    labels = out / ("scene.tif" if form == "cog" else "scene.vrt")
    assert rpcs(labels) == rpcs(source)
    if form == "cog":
        assert "rpcs" not in (out / "scene.tif.aux.xml").read_text().lower()


def test_rpcs_of_a_part_find_the_same_ground(tmp_path):
    source = write_geotiff(tmp_path / "scene.tif", noise(1, 700, 1100, seed=6), rpcs=RPCS)
    left, top = 500000 + 600 * 0.5, 5800000 - 550 * 0.5
    extent = f"{left},{top - 50},{left + 60},{top}"
    command = ["run", str(source), "-o", str(tmp_path / "out"), "--extent", extent, "--chunk-size", "512"]
    assert main([*command, "--segments", "3", "--progress", "none"]) == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as part, rasterio.open(source) as whole:
        col, row = ~whole.transform @ (part.transform.c, part.transform.f)
        assert (row, col) != (0, 0)
        assert (part.rpcs.line_off, part.rpcs.samp_off) == (150.25 - row, 160.0 - col)
        with RPCTransformer(part.rpcs) as of_part, RPCTransformer(whole.rpcs) as of_whole:
            rows, cols = np.array([3, 90]), np.array([5, 40])
            there = of_whole.xy(rows + row, cols + col)
            assert np.allclose(of_part.xy(rows, cols), there, atol=1e-9)


def test_a_slice_that_is_written_from_python_has_its_rpcs(source, tmp_path):
    array = pipeline.open_raster(source)
    codebook = pipeline.fit([array], segments=3)
    labels = pipeline.segment(array, codebook)[70:170, 40:160]
    pipeline.write(labels, tmp_path / "part.tif")
    found = rpcs(tmp_path / "part.tif")
    assert (found["line_off"], found["samp_off"]) == (80.25, 120.0)
    assert found["samp_num_coeff"] == rpcs(source)["samp_num_coeff"]


def test_rpcs_of_coarse_pixels_count_from_their_centres(source):
    place = open_header(source).georeference.coarsened(4)
    found = {name: float(text) for name, text in place.rpcs if name.startswith(("LINE_OFF", "LINE_SCALE"))}
    assert found == {"LINE_OFF": 150.75 / 4 - 0.5, "LINE_SCALE": 151 / 4}


def test_other_rpcs_make_another_raster_and_none_leave_it_as_it_was(tmp_path):
    states = [
        open_header(write_geotiff(tmp_path / f"{i}.tif", PIXELS, **options)).state
        for i, options in enumerate(({}, {"rpcs": RPCS}, {"rpcs": replaced(line_off=151.25)}))
    ]
    assert len(set(states)) == 3


def replaced(**values):
    return RPC(**{**RPCS.to_dict(), **values})


def test_a_mosaic_has_none_for_each_image_has_its_own(tmp_path):
    for i in range(2):
        transform = rasterio.transform.from_origin(500000 + 160 * i, 5800000, 0.5, 0.5)
        write_geotiff(tmp_path / f"{i}.tif", PIXELS, rpcs=RPCS, transform=transform)
    command = ["run", str(tmp_path / "0.tif"), str(tmp_path / "1.tif"), "--mosaic", "-o", str(tmp_path / "o")]
    assert main([*command, "--segments", "3", "--progress", "none"]) == 0
    (labels,) = (tmp_path / "o").glob("*.tif")
    with rasterio.open(labels) as dataset:
        assert dataset.rpcs is None


def test_rpcs_in_a_file_beside_the_raster_count_and_damaged_ones_do_not(tmp_path):
    path = write_geotiff(tmp_path / "scene.tif", PIXELS)
    lines = [f"{name}: {text}" for name, text in RPCS.to_gdal().items() if "COEFF" not in name]
    lines += [
        f"{name}_{i}: {value}"
        for name, text in RPCS.to_gdal().items()
        if "COEFF" in name
        for i, value in enumerate(text.split(), 1)
    ]
    (tmp_path / "scene_RPC.TXT").write_text("\n".join(lines))
    beside = open_segmentable(path).georeference
    assert dict(beside.rpcs)["LINE_OFF"] == "150.25"
    (tmp_path / "scene_RPC.TXT").write_text("\n".join(lines).replace("150.25", "here"))
    assert replace(beside, rpcs=()) == open_segmentable(path).georeference

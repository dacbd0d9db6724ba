"""GeoTIFFs like one that GDAL has opened are known from their tags, just as GDAL would say."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from rasterio.transform import Affine, from_origin

from pipeline.errors import RasterError
from pipeline.source import limits
from pipeline.source.declared import Declared
from pipeline.source.gdal import dataset_opening, palette, references
from pipeline.source.gdal.similar import Similar
from pipeline.source.opening import open_any, open_numbered
from pipeline.source.unchanged import mark_of
from tests.rasters import noise, write_geotiff, write_vrt

PIXELS = noise(3, 40, 50)
ELSEWHERE = {"transform": from_origin(500025.25, 5799980, 0.5, 0.5)}


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """Files that GDAL opens, with nothing known of any."""
    monkeypatch.setattr(palette, "_known", Similar())
    monkeypatch.setattr(references, "_plain", Similar())
    names = []
    real = dataset_opening.open_dataset

    def note(path, **options):
        names.append(Path(path).name)
        return real(path, **options)

    monkeypatch.setattr(dataset_opening, "open_dataset", note)
    return names


def of_gdal(path, *options):
    """What is made of a file alone, of which nothing is known."""
    known, palette._known = palette._known, Similar()
    try:
        return open_numbered(path, *options)
    finally:
        palette._known = known


def written(path, pixels=PIXELS, after=None, **profile):
    write_geotiff(path, pixels, **{"compress": "deflate", **ELSEWHERE, **profile})
    if after is not None:
        with rasterio.open(path, "r+") as dataset:
            after(dataset)
    return str(path)


def test_of_tiles_on_one_grid_gdal_opens_the_first(tmp_path, opened):
    places = [from_origin(5e5 + 25 * i, 58e5 - 20 * i, 0.5, 0.5) for i in range(6)]
    paths = [
        written(tmp_path / f"{i}.tif", noise(3, 40, 50, seed=i), transform=t) for i, t in enumerate(places)
    ]
    rasters = [open_numbered(path) for path in paths]
    assert opened == ["0.tif"]
    assert rasters == [of_gdal(path) for path in paths]
    assert [mark_of(r) for r in rasters] == [mark_of(of_gdal(p)) for p in paths]
    assert len({mark_of(r) for r in rasters}) == 6
    assert [r.georeference.transform for r in rasters] == [tuple(t)[:6] for t in places]


def test_of_sources_of_a_vrt_gdal_opens_the_first(tmp_path, opened):
    for i in range(6):
        written(tmp_path / f"{i}.tif", noise(3, 40, 50, seed=i))
    (tmp_path / "vrt").mkdir()
    sources = [
        f'<SimpleSource><SourceFilename relativeToVRT="1">../{i}.tif</SourceFilename><SourceBand>1'
        f'</SourceBand><DstRect xOff="{i * 50}" yOff="0" xSize="50" ySize="40"/></SimpleSource>'
        for i in range(6)
    ]
    vrt = str(write_vrt(tmp_path / "vrt" / "all.vrt", (40, 300), ("Byte", "".join(sources))))
    mark = mark_of(open_numbered(vrt))
    assert opened == ["0.tif", "all.vrt"]
    references._plain.get = lambda *_: None  # what GDAL says of each is the same
    assert mark_of(open_numbered(vrt)) == mark
    assert len(opened) == 2 + 7
    references._plain = Similar()
    written(tmp_path / "3.tif", noise(3, 40, 50, seed=9))
    assert mark_of(open_numbered(vrt)) != mark


OTHERS = {
    "place": ELSEWHERE,
    "pixel size": {"transform": from_origin(5e5, 58e5, 0.25, 0.5)},
    "south up": {"transform": from_origin(5e5, 58e5, 0.5, -0.5)},
    "rotated": {"transform": Affine(0.5, 0.1, 5e5, 0.1, -0.5, 58e5)},
    "on an axis": {"transform": Affine(0.5, 0, -0.0, 0, -0.5, -0.0)},
    "on an axis, south up": {"transform": Affine(0.5, 0, -0.0, 0, 0.5, -0.0)},
    "no place": {"transform": Affine.identity()},
    "at the origin": {"transform": Affine(1, 0, 0, 0, 1, 0)},
    "CRS": {"crs": "EPSG:32634"},
    "no CRS": {"crs": None},
    "nodata": {"nodata": 7},
    "dtype": {"pixels": PIXELS.astype("int8")},
    "wider dtype": {"pixels": PIXELS.astype("uint16")},
    "size": {"pixels": noise(3, 40, 51)},
    "bands": {"pixels": noise(4, 40, 50)},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16},
    "interleaving": {"interleave": "band"},
    "alpha": {"pixels": noise(4, 40, 50), "photometric": "RGB", "alpha": "YES"},
    "points": {"after": lambda d: d.update_tags(AREA_OR_POINT="Point")},
    "scale": {"after": lambda d: setattr(d, "scales", (0.5, 1, 1))},
    "names": {"after": lambda d: d.set_band_description(1, "red")},
    "colours": {
        "after": lambda d: setattr(d, "colorinterp", (ColorInterp.blue, ColorInterp.green, ColorInterp.red))
    },
    "mask": {"after": lambda d: d.write_mask(PIXELS[0] > 99)},
    "overviews": {"after": lambda d: d.build_overviews([2])},
    "big-endian": {"ENDIANNESS": "BIG"},
    "BigTIFF": {"BIGTIFF": "YES"},
    "palette": {"pixels": PIXELS[:1], "after": lambda d: d.write_colormap(1, {0: (1, 2, 3, 255)})},
    "directory at the end": {"after": lambda d: d.update_tags(much="x" * 40000)},
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_another_header_is_what_gdal_says_in_either_order(tmp_path, other):
    first = written(tmp_path / "1.tif", **ELSEWHERE | {"transform": from_origin(5e5, 58e5, 0.5, 0.5)})
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        second = written(tmp_path / "2.tif", **OTHERS[other])
        written(tmp_path / "3.tif", **OTHERS[other])
    paths = [first, second, str(tmp_path / "3.tif")]
    for order in (paths, paths[::-1]):
        palette._known = Similar()
        for path in order:
            assert repr(open_numbered(path)) == repr(of_gdal(path))
            assert mark_of(open_numbered(path)) == mark_of(of_gdal(path))


@pytest.mark.parametrize("beside", ["2.tif.aux.xml", "2.tfw", "2.tif.msk", "2.IMD", "notes.txt"])
def test_files_beside_one_are_gdals(tmp_path, opened, beside):
    paths = [written(tmp_path / f"{i}.tif") for i in range(3)]
    open_numbered(paths[0])
    open_numbered(paths[1])
    assert opened == ["0.tif"]
    if beside.endswith(".xml"):
        (tmp_path / beside).write_text(
            '<PAMDataset><PAMRasterBand band="1"><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>'
        )
    elif beside.endswith(".msk"):
        written(tmp_path / beside, (PIXELS[:1] > 99) * 255)
    else:
        (tmp_path / beside).write_text("1\n0\n0\n-1\n0\n0\n")
    found = open_numbered(paths[2])
    assert opened == ["0.tif", "2.tif"]
    assert found == of_gdal(paths[2])
    assert (found.nodata[0] == 5) == beside.endswith(".xml")


def test_a_link_is_gdals_and_a_hidden_file_is_no_sidecar(tmp_path, opened):
    first = written(tmp_path / "1.tif")
    (tmp_path / "._1.tif").write_bytes(b"of another system")
    (tmp_path / "more").mkdir()
    link = tmp_path / "2.tif"
    link.symlink_to(first)
    written(tmp_path / "3.tif")
    for path in (first, str(link), str(tmp_path / "3.tif")):
        assert open_numbered(path) == of_gdal(path)
    assert opened.count("1.tif") == opened.count("3.tif") + 1 == 2
    assert opened.count("2.tif") == 2


def test_bands_and_what_is_declared_are_told_apart(tmp_path):
    paths = [written(tmp_path / f"{i}.tif") for i in range(2)]
    options = [((1, 3),), ((3, 1),), (None, Declared(nodata=(5,))), (None, Declared(physical=True)), ()]
    for option in options * 2:
        for path in paths:
            assert open_numbered(path, *option) == of_gdal(path, *option)


@pytest.mark.parametrize("where", ["directory", "value"])
def test_a_file_that_breaks_off_fails_as_gdal_says(tmp_path, where):
    first, second = (written(tmp_path / f"{i}.tif") for i in range(2))
    open_numbered(first)
    with Path(second).open("rb+") as file:
        (start,) = struct.unpack("<4xI", file.read(8))
        file.truncate(start + 5 if where == "directory" else start + 60)
    with pytest.raises(RasterError, match=f"{second}: not a raster that GDAL can open"):
        open_numbered(second)


def test_more_pixels_than_the_file_holds_are_refused_of_one_that_is_known(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(limits, "_FREE_CELLS", 0)
    monkeypatch.setattr(limits, "_BYTES_PER_CELL", 5000)
    first, second = (written(tmp_path / f"{i}.tif") for i in range(2))
    open_numbered(first)
    with Path(second).open("rb+") as file:
        file.truncate(1000)
    with pytest.raises(RasterError, match="claims 50 x 40 px, behind which there are 1000 bytes"):
        open_numbered(second)
    assert opened == ["0.tif"]


def test_pixels_do_not_depend_on_what_was_known(tmp_path):
    nodata = {"nodata": 7, "pixels": noise(3, 40, 50, low=5, high=9)}
    for i in range(3):
        written(tmp_path / f"{i}.tif", **nodata)
    open_numbered(str(tmp_path / "0.tif"))
    copy(tmp_path / "2.tif", tmp_path / "as.vrt", driver="VRT")
    found = open_numbered(str(tmp_path / "2.tif"))
    pixels, valid = found.read(found.bounds)
    for other in (of_gdal(str(tmp_path / "2.tif")), open_any(tmp_path / "as.vrt")):
        assert all((a == b).all() for a, b in zip(other.read(other.bounds), (pixels, valid), strict=True))
    assert replace(found, path="") != found

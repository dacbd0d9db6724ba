"""What rasters refer to: local rasters and nothing else, looked at before GDAL follows it."""

from __future__ import annotations

import os
import socket
import zipfile

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT

from pipeline import errors
from pipeline.commands.inspect import describe
from pipeline.errors import RasterError, UsageError
from pipeline.source.gdal import references, remote
from pipeline.source.opening import open_segmentable
from tests.rasters import from_file, noise, write_geotiff, write_vrt


@pytest.fixture
def folder(tmp_path):
    write_geotiff(tmp_path / "r.tif", noise(3, 60, 70))
    return tmp_path


def refused(path):
    """What opening a raster says that is refused."""
    with pytest.raises(RasterError) as caught:
        open_segmentable(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path):
    raster = open_segmentable(path)
    return raster.read(raster.bounds)[0]


def band(inner, more=""):
    inside = f'<VRTRasterBand dataType="Byte" band="1"{more}>{inner}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="9" rasterYSize="9">{inside}</VRTDataset>'


RAW = "<SourceFilename>/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
RAW_BAND = band(RAW, ' subClass="VRTRawRasterBand"')
CODE = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>{}</PixelFunctionLanguage>"


@pytest.mark.parametrize(
    "text",
    [
        RAW_BAND,
        band(RAW, ' SUBCLASS="vrtrawrasterband"'),
        band(f"<subClass>VRTRawRasterBand</subClass>{RAW}"),
        f"\n\n  {RAW_BAND}",
        f"<?xml version='1.0'?>{RAW_BAND}",
        f"\ufeff{RAW_BAND}",
        f"junk {RAW_BAND}",
        f"{' ' * 900}{RAW_BAND}",
        f"<!-- {'x' * 900} -->{RAW_BAND}",
        band("", ' subClass="VRTSomethingNew"'),
    ],
)
@pytest.mark.parametrize("name", ["a.vrt", "a.tif", "a.png"])
def test_raw_pixels_of_any_file_are_refused_however_they_are_written(folder, text, name):
    (folder / name).write_text(text)
    said = refused(folder / name)
    # what GDAL does not take for a VRT it cannot open
    assert "which may read any file" in said or "is not well-formed XML" in said


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (CODE.format("Python"), "a pixel function in Python, which is never run"),
        (CODE.format("C") + "<PixelFunctionCode>x</PixelFunctionCode>", "code of its own"),
        (from_file("lost.tif"), "cannot read its source lost.tif: no such file"),
        (from_file("a.vrt"), "refers to itself"),
        (from_file("b.vrt"), "refers to itself"),
        (from_file("http://127.0.0.1:1/x.tif"), "lies on a network, and nobody named it"),
        (from_file("/vsicurl/http://127.0.0.1:1/x.tif"), "lies on a network"),
        (from_file("/vsis3/bucket/key.tif"), "lies on a network"),
        (from_file("NETCDF:http://127.0.0.1:1/x.nc:v"), "lies on a network"),
        (from_file("/vsistdin/"), "is a stream"),
        (from_file("/dev/zero"), "a device or a pipe"),
        (from_file("pipe"), "a device or a pipe"),
        (from_file("/etc/passwd"), "cannot use its source /etc/passwd: not a raster"),
        (from_file("&lt;VRTDataset rasterXSize='9' rasterYSize='9'/&gt;"), "XML where the name of a source"),
        (from_file("raw.tif"), "which may read any file"),
        (from_file("/vsizip/z.zip/raw.vrt"), "z.zip"),
        (from_file("r.tif").replace('relativeToVRT="1"', 'relativeToVRT="yes"'), "relativeToVRT of 'yes'"),
        (from_file("r.tif").replace("SimpleSource", "KernelFilteredSource"), "without one kernel"),
        *(
            (
                from_file("r.tif")
                .replace("SimpleSource", "KernelFilteredSource")
                .replace("</K", f"{kernel}</K"),
                "without one kernel",
            )
            for kernel in (
                "<Kernel><Size>0</Size><Coefs>1</Coefs></Kernel>",
                "<Kernel><Size>\u0663</Size></Kernel>",
                "<Other><Size>3</Size></Other>",
                "<Kernel/><Kernel><Size>3</Size></Kernel>",
                "<Kernel Size='0'><Size>3</Size></Kernel>",
            )
        ),
        ("<A>" * 100 + "</A>" * 100, "nested deeper than 64"),
    ],
)
def test_what_a_vrt_may_not_refer_to(folder, inner, said, monkeypatch):
    monkeypatch.chdir(folder)
    os.mkfifo(folder / "pipe")
    (folder / "raw.tif").write_text(RAW_BAND)
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.write(folder / "raw.tif", "raw.vrt")
    (folder / "a.vrt").write_text(band(inner))
    (folder / "b.vrt").write_text(band(from_file("a.vrt")))
    assert said in refused("a.vrt")
    # nor in a VRT that another one refers to
    (folder / "c.vrt").write_text(band(from_file("a.vrt")))
    refused("c.vrt")


@pytest.mark.parametrize(
    "doctype", ['<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "<!DOCTYPE x>"]
)
def test_a_document_type_is_refused(folder, doctype):
    (folder / "a.vrt").write_text(doctype + band(from_file("r.tif")))
    assert "document type" in refused(folder / "a.vrt")


def test_a_chain_of_vrts_has_an_end(folder):
    for i in range(12):
        (folder / f"{i}.vrt").write_text(band(from_file(f"{i + 1}.vrt")))
    (folder / "12.vrt").write_text(band(from_file("r.tif")))
    assert "over more than" in refused(folder / "0.vrt")
    assert read(folder / "8.vrt").any()


def test_xml_in_place_of_a_name_is_refused():
    assert "is XML and not the name of a file" in refused(RAW_BAND)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe.tif")
    assert "a device or a pipe" in refused(folder / "pipe.tif")


def test_a_sidecar_that_is_a_vrt_is_refused(folder):
    (folder / "r.tif.msk").write_text(band(from_file("r.tif")))
    assert "r.tif.msk is a VRT; name that" in refused(folder / "r.tif")


@pytest.mark.parametrize(
    ("name", "said"), [("../secret", "does not lie beside it"), ("raw.vrt", "may read any file")]
)
def test_a_header_that_names_another_file_is_refused(folder, name, said):
    with rasterio.open(folder / "r.tif") as dataset:
        copy(dataset, folder / "r.ers", driver="ERS")
    pixels = (folder / "r").read_bytes()
    (folder.parent / "secret").write_bytes(pixels)
    (folder / "raw.vrt").write_text(RAW_BAND)
    begin = "DatasetHeader Begin"
    header = (folder / "r.ers").read_text().replace(begin, f'{begin}\n\tDataFile\t= "{name}"')
    (folder / "evil.ers").write_text(header)
    assert read(folder / "r.ers").shape == (3, 60, 70)
    assert said in refused(folder / "evil.ers")


def test_an_mrf_that_caches_another_raster_is_refused(folder):
    with rasterio.open(folder / "r.tif") as dataset:
        copy(dataset, folder / "r.mrf", driver="MRF")
    assert read(folder / "r.mrf").shape == (3, 60, 70)
    text = (folder / "r.mrf").read_text()
    (folder / "r.mrf").write_text(
        text.replace("<Raster>", "<CachedSource><Source>r.tif</Source></CachedSource><Raster>")
    )
    assert "is a cache of another raster" in refused(folder / "r.mrf")
    (folder / "r.mrf").write_text(text.replace("<Raster>", "<Raster><DataFile>/etc/passwd</DataFile>"))
    assert "does not lie beside it" in refused(folder / "r.mrf")


def test_files_that_are_requests_to_a_service_are_no_rasters(folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        (folder / "w.xml").write_text(
            f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}${{z}}</ServerUrl></Service></GDAL_WMS>'
        )
        (folder / "v.vrt").write_text(band(from_file("w.xml")))
        for path in ("w.xml", "v.vrt"):
            refused(folder / path)
        with pytest.raises(TimeoutError):
            server.accept()


# What goes on working


def test_a_vrt_of_vrts_of_rasters_elsewhere(folder, tmp_path_factory):
    far = write_geotiff(tmp_path_factory.mktemp("far") / "far.tif", noise(1, 9, 9))
    (folder / "sub").mkdir()
    absolute = from_file(far).replace('relativeToVRT="1"', 'relativeToVRT="0"')
    (folder / "sub" / "in.vrt").write_text(band(absolute))
    (folder / "out.vrt").write_text(band(from_file("sub/in.vrt")))
    np.testing.assert_array_equal(read(folder / "out.vrt"), noise(1, 9, 9))


def test_a_vrt_behind_a_link_finds_what_lies_beside_the_real_one(folder, tmp_path_factory):
    (folder / "a.vrt").write_text(band(from_file("r.tif")))
    link = tmp_path_factory.mktemp("links") / "l.vrt"
    link.symlink_to(folder / "a.vrt")
    assert read(link).any()


def test_a_vrt_of_a_part_of_a_file_and_of_an_archive(folder):
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.write(folder / "r.tif", "r.tif")
    for name in ("GTIFF_DIR:1:r.tif", f"/vsizip/{folder}/z.zip/r.tif"):
        relative = "1" if name.startswith("GTIFF") else "0"
        text = band(from_file(name)).replace('relativeToVRT="1"', f'relativeToVRT="{relative}"')
        (folder / "a.vrt").write_text(text)
        raster = open_segmentable(folder / "a.vrt")
        assert raster.width == 9


def test_a_warped_vrt_a_filter_and_a_pixel_function(folder):
    with rasterio.open(folder / "r.tif") as dataset, WarpedVRT(dataset, crs="EPSG:3857") as warped:
        copy(warped, folder / "w.vrt", driver="VRT")
    assert "VRTWarpedDataset" in (folder / "w.vrt").read_text()
    assert read(folder / "w.vrt").any()
    kernel = "<Kernel><Size>3</Size><Coefs>1 1 1 1 1 1 1 1 1</Coefs></Kernel></KernelFilteredSource>"
    filtered = from_file("r.tif").replace("SimpleSource", "KernelFilteredSource")
    (folder / "k.vrt").write_text(band(filtered.replace("</KernelFilteredSource>", kernel)))
    assert read(folder / "k.vrt").any()
    inner = f"<PixelFunctionType>sum</PixelFunctionType>{from_file('r.tif', 1)}{from_file('r.tif', 2)}"
    (folder / "d.vrt").write_text(band(inner, ' subClass="VRTDerivedRasterBand"'))
    assert read(folder / "d.vrt").any()


def test_a_vrt_connection_string_works_and_what_it_names_is_looked_at(folder):
    assert read(f"vrt://{folder}/r.tif?bands=2").shape == (1, 60, 70)
    (folder / "a.vrt").write_text(RAW_BAND)
    assert "which may read any file" in refused(f"vrt://{folder}/a.vrt?bands=1")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_place_on_the_ground_that_is_not_finite_is_refused(folder, number):
    write_vrt(folder / "n.vrt", (9, 9), ("Byte", from_file("r.tif")))
    text = (folder / "n.vrt").read_text()
    place = f"<GeoTransform>5, {number}, 0, 9, 0, -1</GeoTransform>"
    (folder / "n.vrt").write_text(text.replace("<VRTRasterBand", f"{place}<VRTRasterBand", 1))
    assert "is not finite" in refused(folder / "n.vrt")


def test_names_of_services_are_no_names_of_local_files():
    for path in ("WMS:http://h/", "dods://h/x", "NETCDF:https://h/x.nc:v", "S3://b/k"):
        assert remote.is_remote(path)
    for path in ("vrt://a.tif", "file:///a.tif", "a:b.tif", "/a//b"):
        assert not remote.is_remote(path)
    with pytest.raises((RasterError, UsageError), match="--no-network forbids"):
        remote.refuse("https://h/a.tif")


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "a\nb", "a\udc80b", "a\x07b"])
def test_what_is_shown_holds_nothing_that_a_terminal_obeys(text):
    shown = errors.printable(text)
    assert shown.isprintable()
    assert shown.startswith("a\\")


def test_a_description_of_a_raster_holds_nothing_that_a_terminal_obeys(folder):
    with rasterio.open(folder / "r.tif", "r+") as dataset:
        dataset.descriptions = ["\x1b[31mred", "a\nformat    forged", "c"]
    lines = describe(str(folder / "r.tif")).splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("format ") for line in lines) == 1


def test_what_gdal_takes_for_a_vrt_and_we_do_not_is_refused(folder, monkeypatch):
    (folder / "a.vrt").write_text(RAW_BAND)
    monkeypatch.setattr(references, "_DESCRIBED", (b"nothing of the kind",))
    assert "which it does not look like" in refused(folder / "a.vrt")

"""Rasters over a network: read by ranges, tried again, and failures that say what they are."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from pipeline.source.fingerprint import fingerprint
from pipeline.source.gdal import dataset_opening, transient
from pipeline.source.gdal import remote as network
from pipeline.source.opening import open_segmentable
from tests.rasters import from_file, level_arrays, noise, write_geotiff, write_vrt
from tests.serving import S3_KEYS

ROOT = Path(__file__).resolve().parents[4]
_keys = itertools.count()


class Served:
    """A folder as the server gives it."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port

    def url(self, mode, name, key=None):
        return f"http://127.0.0.1:{self.port}/{mode}/{key or f'k{next(_keys)}'}/{name}"

    def requests(self, url):
        """What was asked for under a URL's key so far: [method, name, range] each."""
        key = url.split("/")[4]
        request = urllib.request.Request(self.url("requests", "", key), method="PUT")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder with a raster of a few hundred KiB, served by another process."""
    folder = tmp_path_factory.mktemp("served")
    profile = {"tiled": True, "blockxsize": 128, "blockysize": 128, "nodata": 0}
    write_geotiff(folder / "a.tif", noise(3, 300, 420, low=0), **profile)
    command = [sys.executable, "-m", "tests.serving", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield Served(folder, int(server.stdout.readline()))
        server.stdin.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Tried as often as ever, but with short pauses."""
    monkeypatch.setattr(transient, "REMOTE_PAUSES_S", (0.01, 0.02, 0.04))
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")


def segmented(source, out, **options):
    report = run(RunConfig(sources=(source,), out=str(out), segments=4, chunk_size=512, **options))
    assert not report.failed, report.failed
    (labels,) = out.glob("*.tif")
    return level_arrays(labels)[0]


def fails(source, out, **options):
    """What a run on a source says that fails; no labels are left."""
    report = run(RunConfig(sources=(source,), out=str(out), **options))
    assert report.exit_code == 1
    (said,) = report.failed.values()
    assert said.startswith(f"{source}: ")
    assert "\n" not in said
    assert not list(out.glob("*.tif"))
    return said.removeprefix(f"{source}: ")


# What works


@pytest.fixture(scope="module")
def wanted(served, tmp_path_factory):
    return segmented(str(served.folder / "a.tif"), tmp_path_factory.mktemp("local") / "o")


@pytest.mark.parametrize("mode", ["fast", "slow", "drop-2", "code-503-2", "code-500-3"])
@pytest.mark.parametrize("workers", ["1", "processes:1"])
def test_labels_are_those_of_the_local_file(served, wanted, tmp_path, mode, workers):
    if workers != "1" and mode not in ("fast", "drop-2"):
        pytest.skip("shown with one")
    url = served.url(mode, "a.tif")
    np.testing.assert_array_equal(segmented(url, tmp_path / "o", workers=workers), wanted)
    if mode != "fast" and workers == "1":
        # what had failed was asked for again
        spans = [span for method, _, span in served.requests(url) if method == "GET" and span]
        assert mode == "slow" or len(spans) > len(set(spans))


def test_no_folder_is_listed_and_only_ranges_are_read(served, tmp_path):
    url = served.url("fast", "a.tif")
    raster = open_segmentable(url)
    raster.read(raster.bounds)
    asked = served.requests(url)
    assert not [name for _, name, _ in asked if name == "" or name.endswith("/")]
    assert all(span for method, _, span in asked if method == "GET")


def test_masks_beside_a_remote_file_count(served):
    path = write_geotiff(served.folder / "masked.tif", noise(1, 20, 20))
    mask = np.random.default_rng(0).integers(0, 2, (20, 20)).astype(bool)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert (served.folder / "masked.tif.msk").exists()
    raster = open_segmentable(served.url("fast", "masked.tif"))
    np.testing.assert_array_equal(raster.read(raster.bounds)[1], mask)


def test_outputs_are_named_for_the_file_and_not_for_its_address(served, tmp_path):
    url = served.url("fast", "a.tif") + "?token=x%2Fy.z&more=1"
    segmented(url, tmp_path / "o")
    assert (tmp_path / "o" / "a.tif").exists()
    record = json.loads((tmp_path / "o" / "a.json").read_text())
    assert record["source"] == url


def test_a_vsi_path_works_as_well(served, wanted, tmp_path):
    found = segmented(f"/vsicurl/{served.url('fast', 'a.tif')}", tmp_path / "o")
    np.testing.assert_array_equal(found, wanted)


def test_a_raster_in_an_archive_works(served, wanted, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(served.folder / "a.tif", "deep/a.tif")
    found = segmented(f"/vsizip/{tmp_path}/a.zip/deep/a.tif", tmp_path / "o")
    np.testing.assert_array_equal(found, wanted)
    assert (tmp_path / "o" / "a.tif").exists()


def test_a_mosaic_of_remote_tiles(served, tmp_path):
    pixels = noise(1, 300, 400, seed=3)
    place = from_origin(0, 0, 1, 1)
    whole = write_geotiff(tmp_path / "whole.tif", pixels, transform=place)
    for i in range(2):
        part = pixels[:, :, 200 * i : 200 * (i + 1)]
        write_geotiff(served.folder / f"t{i}.tif", part, transform=from_origin(200 * i, 0, 1, 1))
    urls = tuple(served.url("fast", f"t{i}.tif") for i in range(2))
    report = run(RunConfig(sources=urls, mosaic=True, out=str(tmp_path / "m"), segments=4))
    assert not report.failed, report.failed
    np.testing.assert_array_equal(
        level_arrays(tmp_path / "m" / "mosaic.tif")[0], segmented(str(whole), tmp_path / "o")
    )


def test_a_remote_zarr_store_of_format_2_is_read_and_one_of_format_3_refused(served, tmp_path):
    pixels = noise(3, 90, 80)
    coords = {"x": 10.0 * np.arange(80) + 5, "y": 900 - 10.0 * np.arange(90) - 5}
    array = xr.DataArray(pixels, dims=("band", "y", "x"), coords=coords, name="image")
    for version in (2, 3):
        array.to_dataset().to_zarr(
            served.folder / f"s{version}.zarr", zarr_format=version, consolidated=version == 2
        )
    raster = open_segmentable(served.url("fast", "s2.zarr"))
    np.testing.assert_array_equal(raster.read(raster.bounds)[0], pixels)
    assert raster.georeference.transform == (10, 0, 0, 0, -10, 900)
    url = served.url("fast", "s3.zarr")
    assert "fetch remote Zarr stores of format 3 first" in fails(url, tmp_path / "o")


# What fails


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("drop", "the connection broke off"),
        ("code-503", "503"),
        ("code-500", "500"),
        ("all-502", "502"),
    ],
)
def test_a_failure_that_lasts_is_named_after_some_tries(served, tmp_path, mode, said):
    url = served.url(mode, "a.tif")
    failure = fails(url, tmp_path / "o")
    assert "cannot be fetched, after 4 tries" in failure
    assert said in failure
    assert "check the network and the server" in failure
    # bounded: our four tries, of which each of GDAL's requests is repeated twice
    assert len(served.requests(url)) < 150


@pytest.mark.parametrize("code", [403, 404, 401, 410])
def test_what_a_server_refuses_is_not_asked_for_again(served, tmp_path, code):
    url = served.url(f"all-{code}", "a.tif")
    failure = fails(url, tmp_path / "o")
    assert f"the server refuses it (HTTP response code: {code})" in failure
    assert "check the address and the credentials" in failure
    assert len([m for m, _, _ in served.requests(url) if m == "GET"]) <= 2


def test_a_file_that_is_not_there_is_refused_so_too(served, tmp_path):
    assert "404" in fails(served.url("fast", "none.tif"), tmp_path / "o")


def test_a_server_that_stalls_is_given_up(served, tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setattr(transient, "REMOTE_PAUSES_S", (0.01,))
    # the server would answer after half a minute
    failure = fails(served.url("stall", "a.tif"), tmp_path / "o")
    assert "cannot be fetched, after 2 tries" in failure
    assert "Operation too slow" in failure


def test_a_server_that_is_not_there_is_named(tmp_path):
    # port 9 of this machine: nobody listens
    assert "Could not connect" in fails("http://127.0.0.1:9/a.tif", tmp_path / "a")
    failure = fails("http://no.such.host.invalid/a.tif", tmp_path / "b")
    assert "Could not resolve host: no.such.host.invalid" in failure


def test_a_server_without_ranges_gives_the_same_or_is_refused(served, wanted, tmp_path):
    url = served.url("plain", "a.tif")
    report = run(RunConfig(sources=(url,), out=str(tmp_path / "o"), segments=4, chunk_size=512))
    if report.failed:
        assert not list((tmp_path / "o").glob("*.tif"))
    else:
        np.testing.assert_array_equal(level_arrays(tmp_path / "o" / "a.tif")[0], wanted)


def test_a_remote_file_that_is_no_raster_is_not_blamed_on_the_network(served, tmp_path):
    (served.folder / "text.tif").write_text("no raster\n" * 99)
    assert "not a raster that GDAL can open" in fails(served.url("fast", "text.tif"), tmp_path / "o")
    raw = (served.folder / "a.tif").read_bytes()
    (served.folder / "cut.tif").write_bytes(raw[: len(raw) // 2])
    # which of the two cannot be told from here
    assert "the connection broke off, or the file there is cut short" in fails(
        served.url("fast", "cut.tif"), tmp_path / "p"
    )


def test_the_others_of_a_batch_are_done(served, tmp_path):
    good, bad = str(served.folder / "a.tif"), served.url("drop", "a.tif")
    report = run(RunConfig(sources=(bad, good), out=str(tmp_path / "o"), segments=4))
    assert report.exit_code == 1
    assert len(report.done) == 1
    assert "broke off" in next(iter(report.failed.values()))


def test_a_vrt_of_a_remote_file_that_fails_is_not_read_as_zeros(served):
    write_vrt(served.folder / "r.vrt", (300, 420), ("Byte", from_file("a.tif")))
    raster = open_segmentable(served.url("drop", "r.vrt"))
    with pytest.raises(RasterError, match=r"broke off|cannot read"):
        raster.read(raster.bounds)


# Who may name what


def test_a_remote_vrt_of_what_lies_beside_it_is_read(served):
    write_vrt(served.folder / "r.vrt", (300, 420), *[("Byte", from_file("a.tif", b)) for b in (1, 2, 3)])
    raster = open_segmentable(served.url("fast", "r.vrt"))
    np.testing.assert_array_equal(raster.read(raster.bounds)[0], noise(3, 300, 420, low=0))


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/a.tif", "https://127.0.0.1:1/a.tif"])
def test_a_remote_vrt_of_what_lies_elsewhere_is_refused(served, tmp_path, name):
    write_vrt(served.folder / "far.vrt", (300, 420), ("Byte", from_file(name)))
    relative = str(int(name.startswith("..")))
    text = (served.folder / "far.vrt").read_text().replace('relativeToVRT="1"', f'relativeToVRT="{relative}"')
    (served.folder / "far.vrt").write_text(text)
    assert "does not lie in its own folder" in fails(served.url("fast", "far.vrt"), tmp_path / "o")


def test_a_local_vrt_of_a_remote_file_is_refused_without_asking_for_it(served, tmp_path):
    url = served.url("fast", "a.tif")
    path = write_vrt(tmp_path / "r.vrt", (300, 420), ("Byte", from_file(f"/vsicurl/{url}")))
    assert "lies on a network, and nobody named it" in fails(str(path), tmp_path / "o")
    assert not served.requests(url)


def test_from_a_local_file_nothing_leads_to_a_network(served):
    url = served.url("fast", "a.tif")
    with dataset_opening.environment("local.tif"), pytest.raises(RasterioIOError):
        rasterio.open(f"/vsicurl/{url}")
    assert not served.requests(url)


@pytest.mark.parametrize("how", ["plain", "mosaic", "stack", "list"])
@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_no_network_forbids_what_is_named_without_asking_for_it(served, tmp_path, how, prefix):
    url = served.url("fast", "a.tif")
    source = prefix + url
    (tmp_path / "l.txt").write_text(source)
    options = {
        "plain": {"sources": (source,)},
        "list": {"sources": (f"@{tmp_path / 'l.txt'}",)},
        "mosaic": {"sources": (source,), "mosaic": True},
        "stack": {"stack": (("a", source),)},
    }[how]
    report = run(RunConfig(out=str(tmp_path / "o"), network=False, **options))
    (said,) = report.failed.values()
    assert source in said
    assert "--no-network forbids" in said
    assert not served.requests(url)


def test_no_network_is_an_option_of_run_plan_and_fit(served, tmp_path, capsys):
    url = served.url("fast", "a.tif")
    ends = {"run": ["-o", str(tmp_path / "o")], "plan": [], "fit": ["-o", str(tmp_path / "c.npz")]}
    for command, more in ends.items():
        assert main([command, url, "--no-network", *more]) == 1
        assert "--no-network forbids" in capsys.readouterr().err
    assert not served.requests(url)


def test_no_network_leaves_local_files_alone(served, wanted, tmp_path):
    found = segmented(str(served.folder / "a.tif"), tmp_path / "o", network=False)
    np.testing.assert_array_equal(found, wanted)


# Fingerprints


def test_a_remote_file_that_changed_is_noticed_by_its_etag(served, tmp_path):
    write_geotiff(served.folder / "changing.tif", noise(1, 40, 40))
    url = served.url("fast", "changing.tif")
    before = fingerprint(url)
    assert len(before) == 64
    assert fingerprint(url) == before
    segmented(url, tmp_path / "o")
    assert run(RunConfig(sources=(url,), out=str(tmp_path / "o"), segments=4, chunk_size=512)).skipped
    write_geotiff(served.folder / "changing.tif", noise(1, 40, 40, seed=1))
    assert fingerprint(url) != before
    with pytest.raises(UsageError, match="the input has changed"):
        run(RunConfig(sources=(url,), out=str(tmp_path / "o"), segments=4, chunk_size=512))


def test_a_server_that_tells_nothing_gives_no_fingerprint(served):
    assert fingerprint(served.url("all-500", "a.tif")) == ""
    assert fingerprint(served.url("plain", "a.tif")) == ""
    assert fingerprint("http://127.0.0.1:9/a.tif") == ""


# S3


@pytest.fixture
def bucket(served, monkeypatch):
    """The environment of an S3 server of one's own, as GDAL reads it; gives its bucket."""
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{served.port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_KEYS[1])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-test-1")
    return "s3"


def test_an_s3_object_is_read_with_the_credentials_of_the_environment(served, bucket, wanted, tmp_path):
    source = f"s3://{bucket}/k{next(_keys)}/a.tif"
    np.testing.assert_array_equal(segmented(source, tmp_path / "o"), wanted)
    again = f"/vsis3/{bucket}/k{next(_keys)}/a.tif"
    np.testing.assert_array_equal(segmented(again, tmp_path / "p"), wanted)


def test_an_s3_object_without_the_right_credentials_is_refused(served, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    failure = fails(f"s3://{bucket}/k{next(_keys)}/a.tif", tmp_path / "o")
    assert "the server refuses it (HTTP response code: 403: no such signature)" in failure
    assert "credentials" in failure


def test_an_s3_object_that_is_not_there_is_refused(served, bucket, tmp_path):
    failure = fails(f"s3://{bucket}/k{next(_keys)}/none.tif", tmp_path / "o")
    assert "the server refuses it (HTTP response code: 404" in failure


# Settings


@pytest.mark.parametrize(("given", "wanted"), [({}, "2"), ({"GDAL_HTTP_MAX_RETRY": "7"}, "7")])
def test_settings_of_gdal_are_defaults_that_the_environment_overrides(given, wanted):
    code = (
        "import os\n"
        "from rasterio.env import get_gdal_config\n"
        "from pipeline.source.gdal import dataset_opening, setup\n"
        "before = dict(os.environ)\n"
        "with dataset_opening.environment('a.tif'):\n"
        "    print(get_gdal_config('GDAL_HTTP_MAX_RETRY'), get_gdal_config('VRT_NUM_THREADS'))\n"
        "print(get_gdal_config('VRT_NUM_THREADS'), os.environ == before)\n"
        "setup.configure()\n"
        "print(os.environ['GDAL_HTTP_MAX_RETRY'], os.environ['VRT_NUM_THREADS'])\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("GDAL_")} | given
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [wanted, "1", "None", "True", wanted, "1"]


@pytest.mark.parametrize(
    ("path", "gdal", "remote"),
    [
        ("https://h/a.tif?b=c", "/vsicurl/https://h/a.tif?b=c", True),
        ("s3://b/k/a.tif", "/vsis3/b/k/a.tif", True),
        ("gs://b/a.tif", "/vsigs/b/a.tif", True),
        ("az://b/a.tif", "/vsiaz/b/a.tif", True),
        ("/vsizip//vsicurl/https://h/a.zip/a.tif", "/vsizip//vsicurl/https://h/a.zip/a.tif", True),
        ('NETCDF:"/vsis3/b/a.nc":x', 'NETCDF:"/vsis3/b/a.nc":x', True),
        ("https://h/a.zarr", 'ZARR:"/vsicurl/https://h/a.zarr"', True),
        ("/data/a.tif", "/data/a.tif", False),
        ("/vsizip/a.zip/a.tif", "/vsizip/a.zip/a.tif", False),
        ("C:/data/a.tif", "C:/data/a.tif", False),
        ("netcdf:a.nc:b", "netcdf:a.nc:b", False),
    ],
)
def test_what_gdal_calls_a_path(path, gdal, remote):
    assert network.gdal_path(path) == gdal
    assert network.is_remote(path) == remote

"""Chunks of Zarr stores: read as zarr reads them, and never inflated beyond what their store declares."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
import zlib

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs as v3
from zarr.codecs import numcodecs as v3_numcodecs

from engine.grid import Window
from pipeline.errors import DamageError, RasterError
from pipeline.source.zarr import inflate
from pipeline.source.zarr.conventions import DAMAGE_ERRORS
from pipeline.source.zarr.raster import open_store
from tests.rasters import noise

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not")

BOMB = 48 << 20
SIDE = 64  # of a chunk
ZEROS = bytes(BOMB)
PACKED = {
    "gzip": gzip.compress(ZEROS),
    "zlib": zlib.compress(ZEROS),
    "bz2": bz2.compress(ZEROS),
    "lzma": lzma.compress(ZEROS, preset=0),
    "zstd": numcodecs.Zstd().encode(ZEROS),
    "blosc": numcodecs.Blosc("zstd").encode(ZEROS),
    "lz4": numcodecs.LZ4().encode(ZEROS),
}
FORMAT_3 = {
    "gzip": v3.GzipCodec,
    "zstd": v3.ZstdCodec,
    "blosc": v3.BloscCodec,
    "zlib": v3_numcodecs.Zlib,
    "bz2": v3_numcodecs.BZ2,
    "lzma": v3_numcodecs.LZMA,
    "lz4": v3_numcodecs.LZ4,
}


def runs(count, *, says=None):
    """A zstd frame of zeros in blocks of 128 KiB that says how many bytes it holds, or not."""
    head = b"\x00\x58" if says is None else b"\x80\x58" + says.to_bytes(4, "little")
    blocks = b"".join(
        ((1 << 20) | 2 | last).to_bytes(3, "little") + b"\0" for last in [0] * (count - 1) + [1]
    )
    return b"\x28\xb5\x2f\xfd" + head + blocks


def stored(path, pixels, zarr_format=3, **options):
    """A store of one array."""
    options = {"chunks": (SIDE, SIDE), **options}
    if zarr_format == 3:
        options["dimension_names"] = ("y", "x")
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    array = group.create_array("image", shape=pixels.shape, dtype=pixels.dtype, **options)
    array[...] = pixels
    return path


def chunk_of(path, zarr_format):
    return path / "image" / ("c/0/0" if zarr_format == 3 else "0.0")


def codec(kind, zarr_format):
    return FORMAT_3[kind]() if zarr_format == 3 else numcodecs.get_codec({"id": kind})


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory):
    """Have what zarr imports when it first reads in memory, which is no chunk's."""
    raster = open_store(str(stored(tmp_path_factory.mktemp("s") / "s.zarr", noise(1, 150, 170)[0])))
    raster.read_stack(raster.bounds)


def refused_in_little_memory(path):
    raster = open_store(str(path))
    tracemalloc.start()
    try:
        with pytest.raises(DamageError) as caught:
            raster.read_stack(raster.bounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BOMB // 8
    return str(caught.value)


GOOD_2 = {
    **{kind: {"compressors": numcodecs.get_codec({"id": kind})} for kind in PACKED},
    "bare": {"compressors": None},
    "checksums": {"filters": [numcodecs.Adler32(), numcodecs.Fletcher32()]},
    "base64": {"filters": [numcodecs.get_codec({"id": "base64"})], "compressors": numcodecs.LZMA()},
    "wider": {"filters": [numcodecs.AsType("f8", "u2")], "compressors": numcodecs.Zlib()},
    "narrower": {"filters": [numcodecs.Delta("u2", "i4"), numcodecs.Shuffle(4)]},
    "packed": {"filters": [numcodecs.PackBits()]},
    "scaled": {"filters": [numcodecs.FixedScaleOffset(0, 1, "u2", "f4"), numcodecs.Quantize(3, "f4")]},
    "twice": {"filters": [numcodecs.BZ2(), numcodecs.GZip()], "compressors": numcodecs.Blosc("lz4")},
}
RAW = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 1}]}
GOOD_3 = {
    **{kind: lambda kind=kind: {"compressors": codec(kind, 3)} for kind in FORMAT_3},
    "bare": lambda: {"compressors": None},
    "checksum": lambda: {"compressors": [v3.Crc32cCodec(), v3.ZstdCodec(checksum=True)]},
    "raw lzma": lambda: {"compressors": v3_numcodecs.LZMA(**RAW)},
    "twice": lambda: {"compressors": [v3.GzipCodec(), v3_numcodecs.Zlib(), v3_numcodecs.CRC32()]},
    "turned": lambda: {"filters": [v3.TransposeCodec(order=(1, 0))], "compressors": v3.BloscCodec()},
    "wider": lambda: {"filters": [v3_numcodecs.AsType(encode_dtype="f8", decode_dtype="u2")]},
    "delta": lambda: {"filters": [v3_numcodecs.Delta(dtype="u2", astype="i4")]},
    "shuffled": lambda: {"compressors": [v3_numcodecs.Shuffle(elementsize=2), v3.ZstdCodec()]},
    "shards": lambda: {"chunks": (16, 32), "shards": (SIDE, SIDE), "compressors": v3.GzipCodec()},
    "bare shards": lambda: {"chunks": (16, 32), "shards": (SIDE, SIDE), "compressors": None},
}


@pytest.mark.parametrize(
    ("zarr_format", "name"), [*((2, name) for name in GOOD_2), *((3, name) for name in GOOD_3)]
)
@pytest.mark.parametrize("kind", ["noise", "zeros"])
def test_good_stores_are_read_as_zarr_reads_them(tmp_path, zarr_format, name, kind):
    pixels = noise(1, 150, 170)[0].astype("u2") * 7 % 1000
    pixels = pixels > 300 if name == "packed" else pixels
    pixels = pixels if kind == "noise" else np.zeros_like(pixels)
    options = GOOD_2[name] if zarr_format == 2 else GOOD_3[name]()
    path = stored(tmp_path / "s.zarr", pixels, zarr_format, **options)
    raster = open_store(str(path))
    found = raster.read_stack(raster.bounds)[0]
    np.testing.assert_array_equal(found, zarr.open_array(str(path), path="image", mode="r")[...])
    np.testing.assert_array_equal(found, pixels)
    assert chunk_of(path, zarr_format).exists() == (kind == "noise")
    part = Window(SIDE, 3, 17, 99)
    np.testing.assert_array_equal(raster.read_stack(part)[0], pixels[part.slices()])


def large(path, zarr_format, kind, **options):
    """A store whose chunks have room for the bytes that bombs are stored in."""
    options = {"chunks": (512, 512), "compressors": kind and codec(kind, zarr_format), **options}
    return stored(path, noise(1, 512, 512)[0], zarr_format, **options)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", PACKED)
def test_a_chunk_that_inflates_to_more_than_is_declared_is_refused_before_it_does(
    tmp_path, kind, zarr_format
):
    path = large(tmp_path / "s.zarr", zarr_format, kind)
    chunk_of(path, zarr_format).write_bytes(PACKED[kind])
    said = refused_in_little_memory(path)
    assert said.startswith(f"{path}: cannot read ")
    assert f"(a chunk inflates to more than the {512 * 512} bytes that its store declares)" in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_the_inner_chunks_of_a_shard_are_bounded_by_their_own_size(tmp_path, kind):
    path = large(tmp_path / "s.zarr", 3, kind, chunks=(256, 256), shards=(1024, 1024))
    index = np.full((17, 2), 2**64 - 1, "<u8").tobytes()[:256]
    index = np.array([0, len(PACKED[kind])], "<u8").tobytes() + index[16:]
    checksum = int(numcodecs.CRC32C(location="end").encode(index)[-4:].view("<u4")[0]).to_bytes(4, "little")
    chunk_of(path, 3).write_bytes(PACKED[kind] + index + checksum)
    said = refused_in_little_memory(path)
    assert f"inflates to more than the {256 * 256} bytes" in said


def test_a_shard_whose_index_claims_long_chunks_is_refused_before_they_are_read(tmp_path):
    path = large(tmp_path / "s.zarr", 3, "gzip", chunks=(256, 256), shards=(1024, 1024))
    data = bytearray(chunk_of(path, 3).read_bytes())
    index = np.frombuffer(data[-260:-4], "<u8").copy()
    index[1] = BOMB
    checksum = numcodecs.CRC32C(location="end").encode(index.tobytes())[-4:].tobytes()
    chunk_of(path, 3).write_bytes(ZEROS + index.tobytes() + checksum)
    assert "a chunk is stored in more than" in refused_in_little_memory(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_stored_in_more_than_it_may_take_is_not_read(tmp_path, zarr_format):
    path = large(tmp_path / "s.zarr", zarr_format, None)
    with chunk_of(path, zarr_format).open("wb") as file:
        file.truncate(1 << 40)
    assert "a chunk is stored in more than" in refused_in_little_memory(path)


@pytest.mark.parametrize(("codecs", "limit"), [(["bz2", "gzip"], 2**18), (["zstd", "zlib"], 2**18)])
def test_what_is_compressed_twice_is_bounded_twice(tmp_path, codecs, limit):
    inner, outer = (numcodecs.get_codec({"id": kind}) for kind in codecs)
    path = large(tmp_path / "s.zarr", 2, None, filters=[inner], compressors=outer)
    chunk_of(path, 2).write_bytes(outer.encode(PACKED[codecs[0]]))
    assert f"inflates to more than the {limit} bytes" in refused_in_little_memory(path)
    chunk_of(path, 2).write_bytes(PACKED[codecs[1]])
    assert f"inflates to more than the {limit + limit // 2 + 1024} bytes" in refused_in_little_memory(path)


def test_bits_that_are_packed_over_and_over_are_bounded(tmp_path):
    path = large(tmp_path / "s.zarr", 2, "gzip")
    said = json.loads((path / "image/.zarray").read_text())
    (path / "image/.zarray").write_text(json.dumps({**said, "filters": [{"id": "packbits"}] * 8}))
    chunk_of(path, 2).write_bytes(gzip.compress(bytes(200_000)))
    refused_in_little_memory(path)


def test_a_store_encoded_by_what_nothing_bounds_is_refused(tmp_path):
    path = large(tmp_path / "s.zarr", 2, None)
    said = json.loads((path / "image/.zarray").read_text())
    categories = {"id": "categorize", "labels": ["a" * 99], "dtype": "U99", "astype": "u1"}
    (path / "image/.zarray").write_text(json.dumps({**said, "filters": [categories]}))
    with pytest.raises(RasterError, match="its chunks are encoded by 'categorize', which is not read"):
        open_store(str(path))


def test_codecs_that_make_wide_values_are_refused(tmp_path):
    path = large(tmp_path / "s.zarr", 3, "gzip")
    said = json.loads((path / "image/zarr.json").read_text())
    wide = {"encode_dtype": "u1", "decode_dtype": "S9999"}
    said["codecs"].insert(0, {"name": "numcodecs.astype", "configuration": wide})
    (path / "image/zarr.json").write_text(json.dumps(said))
    with pytest.raises(RasterError, match="its codecs make chunks of 2499 MiB"):
        open_store(str(path))


def test_coordinates_that_are_bombs_are_no_coordinates(tmp_path):
    path = large(tmp_path / "s.zarr", 3, "gzip")
    group = zarr.open_group(str(path))
    group.create_array("x", shape=(512,), chunks=(512,), dtype="f8", compressors=v3.GzipCodec())[...] = 7
    group.create_array("y", shape=(1 << 40,), chunks=(1 << 20,), dtype="f8", dimension_names=("y",))
    open_store(str(path))
    (path / "x/c/0").write_bytes(PACKED["gzip"])
    tracemalloc.start()
    try:
        assert open_store(str(path)).georeference.transform is None
        assert tracemalloc.get_traced_memory()[1] < BOMB // 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [numcodecs.Zstd(3).encode(bytes(n)) for n in (1, 255, 256, 70_000, 1 << 20)])
@pytest.mark.parametrize("times", [1, 3])
def test_zstd_frames_are_inflated_to_what_they_say(data, times):
    held = numcodecs.Zstd().decode(data) * times
    assert inflate.inflated("zstd", {}, memoryview(data * times), len(held)) == held
    with pytest.raises(ValueError, match=f"more than the {len(held) - 1} bytes"):
        inflate.inflated("zstd", {}, memoryview(data * times), len(held) - 1)


def test_zstd_frames_that_do_not_say_what_they_hold_are_bounded_by_their_blocks():
    assert numcodecs.Zstd().decode(runs(3)) == bytes(3 << 17)
    assert inflate.inflated("zstd", {}, memoryview(runs(3)), 3 << 17) == bytes(3 << 17)
    with pytest.raises(ValueError, match=f"more than the {2 << 17} bytes"):
        inflate.inflated("zstd", {}, memoryview(runs(400)), 2 << 17)
    # a stream may hold many of one block each
    with pytest.raises(ValueError, match=f"more than the {2 << 17} bytes"):
        inflate.inflated("zstd", {}, memoryview(runs(1) * 400), 2 << 17)
    # what is said counts, however it is made
    with pytest.raises((ValueError, RuntimeError)):
        inflate.inflated("zstd", {}, memoryview(runs(400, says=100)), 2 << 17)


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("length", [1, 3, 11, 15, 30])
def test_data_that_ends_early_is_an_error(kind, length):
    with pytest.raises(DAMAGE_ERRORS):
        inflate.inflated(kind, {}, memoryview(PACKED[kind])[:length], 1 << 30)

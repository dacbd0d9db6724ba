"""The first promise: labels are the same bytes whatever the chunk size, workers or kind of workers.

Every option that can change a label is drawn here; one that is not does not ship.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from engine.codebook import Codebook
from engine.feature_sets.feature_set import FeatureSet
from pipeline.api.arrays import open_raster, segment
from pipeline.config import RunConfig
from pipeline.running.run import run
from pipeline.source import bad_blocks
from tests.rasters import spoil


def levels(path: Path) -> list[bytes]:
    """Decoded labels of every level of a file."""
    with rasterio.open(path) as dataset:
        found = [dataset.read(1).tobytes()]
        count = len(dataset.overviews(1))
    for level in range(count):
        with rasterio.open(path, overview_level=level) as dataset:
            found.append(dataset.read(1).tobytes())
    return found


def outcome(source: Path, out: Path, **options) -> tuple[str, list[bytes], str]:
    """Codebook hash, decoded labels and file hash of a run."""
    report = run(RunConfig(sources=(str(source),), out=str(out), **options))
    assert not report.failed, report.failed
    labels = out / f"{source.stem}.tif"
    file_hash = hashlib.sha256(labels.read_bytes()).hexdigest()
    return Codebook.load(out / "codebook.npz").content_hash, levels(labels), file_hash


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
SHAPES = st.tuples(st.integers(1, 1300), st.integers(1, 1300))
# map coordinates of the rasters below, whose first pixels they always hold
EXTENTS = st.none() | st.tuples(
    st.just(499999.0),
    st.floats(4.9993e6, 4.99999e6),
    st.floats(500001.0, 500700.0),
    st.just(5.000001e6),
)
DTYPES = st.sampled_from(["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])


@st.composite
def cases(draw):
    """A raster to write, and the options of a run on it."""
    height, width = draw(SHAPES)
    dtype, bands, scaled = draw(DTYPES), draw(st.integers(1, 5)), draw(st.booleans())
    options = {**draw(kmeans_options()), **draw(selections(bands, scaled=scaled))}
    if (dtype, bands, options["bands"]) == ("uint8", 3, None) and draw(st.booleans()):
        options |= {"features": draw(st.sampled_from(["lab", "lab+texture"])), "scale": None}
    return {
        "shape": (bands, height, width),
        "dtype": dtype,
        "scaled": scaled,
        "seed": draw(st.integers(0, 2**31)),
        "smooth": draw(st.booleans()),
        "nodata": draw(st.sampled_from([None, 0])),
        "holes": draw(st.integers(0, 3)),
        "tiled": draw(st.booleans()),
        "damaged": draw(st.sampled_from([0, 0, 0, 1, 3])),
        "options": {**options, **draw(stages(min(height, width)))},
    }


SCALE, OFFSET = (0.5, 2.0, 0.01, -1.0, 3.0), (-3.0, 0.0, 0.5, 200.0, 1e3)


@st.composite
def selections(draw, bands, *, scaled):
    """Options that say which pixels are read, and as what; the first pixel, 50 in all bands, stays valid."""
    raw, last = draw(st.booleans()), bands
    # four bands of 8 bits are three and alpha, which has no value of its own
    each = "61" if bands == 4 else ",".join(map(str, range(60, 60 + bands)))
    options = {
        "nodata": draw(st.sampled_from([None, None, "none", "61", each])),
        "raw_values": raw,
    }
    index = f"(b1-b{last})/(b1+b{last}+1)"
    chosen = f"where(b1 > 60 or not b{last} in (50, 55), b1, b{last}*2),abs(b1)**0.5"
    options["bands"] = draw(st.sampled_from([None, None, index, f"b{last},{index}", chosen]))
    # thresholds below the first pixel, in physical values or stored ones
    physical = scaled and not raw
    scale, offset = (SCALE[last - 1], OFFSET[last - 1]) if physical else (1.0, 0.0)
    conditions = [None, f"(b{last} - {offset}) * {1 / scale} > 40.5", f"b1 == b1 and not b{last}/0 < 0"]
    if not physical:
        conditions += [f"(b{last} & 1) == 0", f"b1 in (50, 51, 60) or ~(b{last} < 62)"]
    options["valid"] = draw(st.sampled_from(conditions))
    return options


@st.composite
def stages(draw, side):
    """Options of what is made of labels, for a raster of so many pixels at its shorter side."""
    windows = {None: 1, "3": 3, "5x2": 5, "9": 9, "41x3": 41}
    return {"smooth": draw(st.sampled_from([text for text, px in windows.items() if px <= side]))}


@st.composite
def kmeans_options(draw):
    """Options of a run with K-Means on any bands."""
    features = draw(st.sampled_from(["bands", "texture"]))
    return {
        "segments": draw(st.integers(2, 12)),
        "resolution": draw(st.integers(1, 32)),
        "features": features,
        "seed": draw(st.integers(0, 99)),
        # texture of wide values is that of scaled ones
        "scale": draw(st.sampled_from([None, (10.0, 90.0), *(["none"] * (features == "bands"))])),
        "extent": draw(EXTENTS),
        "palette": draw(st.sampled_from([None, None, "distinct"])),
    }


@st.composite
def cnn_cases(draw):
    """A raster of three bands, and the options of a run with a built-in network."""
    case = draw(cases())
    case["shape"] = (3, *case["shape"][1:])
    case["options"] = {
        "method": "cnn",
        "segments": draw(st.integers(2, 6)),
        "resolution": draw(st.sampled_from([4, 8, 16])),
        "upsample": draw(st.sampled_from(["nearest", "bilinear"])),
        "seed": draw(st.integers(0, 99)),
        "device": "cpu",
        "extent": draw(EXTENTS),
        **draw(stages(min(case["shape"][1:]))),
    }
    return case


def damage_raster(path: Path, case) -> None:
    """Make some blocks of a raster undecodable, but the first."""
    with rasterio.open(path) as dataset:
        places = [index for index, _ in dataset.block_windows(1)][1:]
    rng = np.random.default_rng(case["seed"])
    for i in rng.permutation(len(places))[: case["damaged"]]:
        spoil(path, *places[i])


@pytest.fixture(autouse=True, scope="module")
def no_pauses():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))
        yield


def write_raster(path: Path, case) -> None:
    """A raster of noise or slopes, with rectangular nodata holes (NaN where the dtype has it)."""
    bands, height, width = case["shape"]
    rng = np.random.default_rng(case["seed"])
    pixels = rng.normal(60, 20, (bands, height, width))
    if case["smooth"]:
        pixels = pixels / 10 + np.linspace(1, 100, width) + np.linspace(0, 20, height)[:, None]
    pixels = pixels.clip(1, 120).astype(case["dtype"])
    for _ in range(case["holes"]):
        y, x = rng.integers(0, height), rng.integers(0, width)
        hole = np.s_[:, y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)]
        pixels[hole] = np.nan if np.dtype(case["dtype"]).kind == "f" else (case["nodata"] or 1)
    pixels[:, 0, 0] = 50  # a raster without any valid pixel fails, which other tests show
    block = {"tiled": True, "blockxsize": 256, "blockysize": 128} if case["tiled"] else {}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=bands,
        dtype=case["dtype"],
        crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 0.5, 0.5),
        nodata=case["nodata"],
        compress="deflate",
        **block,
    ) as dataset:
        dataset.write(pixels)
        if case["scaled"]:
            dataset.scales, dataset.offsets = SCALE[:bands], OFFSET[:bands]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(case=cases())
def test_any_raster_has_the_same_labels_in_every_chunking(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("case")
    source = folder / "r.tif"
    write_raster(source, case)
    damage_raster(source, case)
    options = {**case["options"], "on_bad_chunk": "nodata" if case["damaged"] else "fail"}
    layouts = [
        {"chunk_size": 512, "workers": "2"},
        {"chunk_size": 1024, "workers": "1"},
        {"chunk_size": 4096, "workers": "threads:3"},
        {"chunk_size": 1536, "workers": "2", "memory_limit": 1 << 28},  # less than Python alone takes
    ]
    runs = [outcome(source, folder / f"o{i}", **options, **layout) for i, layout in enumerate(layouts)]
    assert len({codebook for codebook, _, _ in runs}) == 1
    assert all(labels == runs[0][1] for _, labels, _ in runs)
    # the sink's tiles do not depend on chunks either, so even the files are equal
    assert len({file for _, _, file in runs}) == 1


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(case=cases(), data=st.data())
def test_lazy_labels_equal_the_run_and_slices_lie_on_the_same_grid(tmp_path_factory, case, data):
    folder = tmp_path_factory.mktemp("case")
    source = folder / "r.tif"
    write_raster(source, case)
    case["options"]["extent"] = None  # an array is cut by slicing it
    case["options"]["bands"] = None  # and has the bands that it is opened with
    outcome(source, folder / "o", **case["options"])
    with rasterio.open(folder / "o" / "r.tif") as dataset:
        whole = dataset.read(1)
    codebook = Codebook.load(folder / "o" / "codebook.npz")
    selection = {name: case["options"][name] for name in ("nodata", "valid", "raw_values")}
    array = open_raster(source, chunk_size=data.draw(st.sampled_from([512, 1024])), **selection)
    smoothed = segment(array, codebook, smooth=case["options"]["smooth"])
    np.testing.assert_array_equal(smoothed.compute(scheduler="synchronous").values, whole)
    plain = segment(array, codebook).compute(scheduler="synchronous").values
    r, (height, width) = case["options"]["resolution"], whole.shape
    top = data.draw(st.integers(0, (height - 1) // r)) * r
    left = data.draw(st.integers(0, (width - 1) // r)) * r
    first = top, left
    part = segment(array[:, top:, left:], codebook).compute(scheduler="synchronous").values
    # smoothing and texture alone see where a slice ends
    reach = FeatureSet.parse(case["options"]["features"]).halo_px
    top, left = (start and start + -(-reach // r) * r for start in (top, left))
    below, right = (max(0, after - before) for after, before in ((top, first[0]), (left, first[1])))
    np.testing.assert_array_equal(part[below:, right:], plain[top:, left:])


BANDS = ("a", "b", "c")


@st.composite
def scene_cases(draw):
    """Scenes of three bands on grids of their own, and the options of a run on their stacks."""
    kinds = [
        {
            "side": draw(st.sampled_from([1.0, 2.0, 6.0, 0.5, 1.7])),
            "offset": draw(st.sampled_from([0.0, 0.5, -3.0, 0.3])),
            "dtype": draw(st.sampled_from(["uint8", "uint16", "int16", "float32"])),
            "tiled": draw(st.booleans()),
        }
        for _ in BANDS
    ]
    kinds[0] |= {"side": 1.0, "offset": 0.0}
    options = draw(kmeans_options())
    return {
        "extents": [(draw(st.integers(60, 900)), draw(st.integers(60, 900))) for _ in range(2)],
        "kinds": kinds,
        "damaged": draw(st.sampled_from([0, 0, 2])),
        "seed": draw(st.integers(0, 2**31)),
        "options": {
            **options,
            "resample": draw(st.sampled_from(["nearest", "bilinear", "bilinear", "average"])),
            "reference_band": draw(st.sampled_from([None, *BANDS])),
            "bands": draw(st.sampled_from([None, "a,b", "c,(a-b)/(a+b+1)"])),
            "valid": draw(st.sampled_from([None, "c > 20", "(c > 25) & (b < 115)"])),
            "nodata": draw(st.sampled_from([None, "61"])),
            **draw(stages(10)),  # the coarsest band may be the grid
        },
    }


def write_scene(folder: Path, case, index: int) -> None:
    """A file for each band; extents and grids differ, and each has holes of its own."""
    height, width = case["extents"][index]
    for i, (band, kind) in enumerate(zip(BANDS, case["kinds"], strict=True)):
        side, offset = kind["side"] * 0.5, kind["offset"] * 0.5
        shape = [max(2, int(n / kind["side"])) for n in (height, width)]
        rng = np.random.default_rng([case["seed"], index, i])
        pixels = rng.normal(60, 20, shape).clip(1, 120).astype(kind["dtype"])
        y, x = (rng.integers(1, n) for n in shape)
        pixels[y : y + shape[0] // 3, x : x + shape[1] // 3] = 0
        pixels[:2, :2] = 50  # some pixels are valid in each case
        block = {"tiled": True, "blockxsize": 128, "blockysize": 64} if kind["tiled"] else {}
        with rasterio.open(
            folder / f"s{index}_{band}.tif",
            "w",
            driver="GTiff",
            width=shape[1],
            height=shape[0],
            count=1,
            dtype=kind["dtype"],
            crs="EPSG:32633",
            transform=from_origin(5e5 + offset, 5e6 - offset, side, side),
            nodata=0,
            compress="deflate",
            **block,
        ) as dataset:
            dataset.write(pixels, 1)


def scenes_outcome(folder: Path, out: Path, **options) -> dict[str, bytes]:
    """Every label file and the codebook of a run on all scenes of a folder."""
    pattern = ",".join(f"{band}={folder}/{{scene}}_{band}.tif" for band in BANDS)
    report = run(RunConfig(stack=pattern, out=str(out), **options))
    assert not report.failed, report.failed
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".tif", ".npz")}


@settings(max_examples=5, deadline=None, suppress_health_check=SLOW)
@given(case=scene_cases())
def test_scenes_of_bands_on_several_grids_have_the_same_labels_in_every_chunking(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("scenes")
    for index in range(2):
        write_scene(folder, case, index)
        for i, band in enumerate(BANDS):
            damage_raster(folder / f"s{index}_{band}.tif", {**case, "seed": i, "damaged": case["damaged"]})
    options = {**case["options"], "on_bad_chunk": "nodata" if case["damaged"] else "fail"}
    layouts = [
        {"chunk_size": 512, "workers": "2"},
        {"chunk_size": 1024, "workers": "1"},
        {"chunk_size": 4096, "workers": "threads:3"},
    ]
    runs = [scenes_outcome(folder, folder / f"o{i}", **options, **o) for i, o in enumerate(layouts)]
    assert runs[0].keys() == {"s0.tif", "s1.tif", "codebook.npz"}
    assert all(found == runs[0] for found in runs)


PAIRS = [
    (512, "processes:2", 1),
    (1024, "1", 3),
    (2048, "threads:2", 4),
    (4096, "processes:1", 16),
    (512, "threads:2", 16),
    (4096, "2", 1),
    (1024, "processes:2", 4),
    (2048, "1", 3),
]


@pytest.fixture(scope="module")
def real(rasters, tmp_path_factory):
    """A crop of a real raster with awkward sides, and a reference run for each resolution."""
    source = tmp_path_factory.mktemp("real") / "crop.tif"
    largest = max(rasters.glob("*.tif"), key=lambda p: p.stat().st_size)
    with rasterio.open(largest) as dataset:
        height, width = min(1795, dataset.height), min(2333, dataset.width)
        window = ((0, height), (0, width))
        profile = {**dataset.profile, "height": height, "width": width, "driver": "GTiff", "count": 3}
        profile |= {
            "compress": "deflate",
            "photometric": "rgb",
            "tiled": True,
            "blockxsize": 256,
            "blockysize": 256,
        }
        with rasterio.open(source, "w", **profile) as target:
            target.write(dataset.read((1, 2, 3), window=window))
    return source


@pytest.mark.parametrize(("chunk", "workers", "resolution"), PAIRS)
def test_a_real_raster_has_the_same_labels_with_any_workers(real, tmp_path, chunk, workers, resolution):
    reference = outcome(real, tmp_path / "a", resolution=resolution, chunk_size=1024, workers="1")
    other = outcome(real, tmp_path / "b", resolution=resolution, chunk_size=chunk, workers=workers)
    assert other == reference

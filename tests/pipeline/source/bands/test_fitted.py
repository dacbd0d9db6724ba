"""Bands of a codebook in other rasters: by name where both have names."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

import pipeline
from engine.codebook import Codebook
from pipeline.commands.plan.plan import plan
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.events.kinds import Warned
from pipeline.events.observer import Observer
from pipeline.running.run import run
from pipeline.source.bands.fitted import FittedBands, given_names
from tests.rasters import noise, write_geotiff


@dataclass
class Header:
    band_names: tuple[str, ...]
    colours: tuple[str, ...] = ()
    path: str = "r.tif"

    @property
    def bands(self):
        return tuple(range(1, len(self.band_names) + 1))


def chosen(fitted, names, asked=None, colours=(), numbers=None, **options):
    numbers = numbers or tuple(range(1, len(fitted) + 1))
    return FittedBands(numbers, fitted, asked, **options).in_raster(lambda: Header(names, colours))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B04", "B03", "B02"), (1, 2, 3)),
        (("b2", "B3", "B4", "B8"), (3, 2, 1)),
        (("band 1", "band 2", "band 3"), (1, 2, 3)),  # nothing to compare
        (("Layer_1", "", "Band 3"), (1, 2, 3)),
        (("x", "", "y"), (1, 2, 3)),  # not all are named
        (("", "B4", "B3", "B2"), (2, 3, 4)),
    ],
)
def test_bands_are_found_by_name_where_all_have_names(names, expected):
    assert chosen(("B4", "B3", "B2"), names) == expected


@pytest.mark.parametrize(
    ("names", "asked", "said"),
    [
        (("B8", "B8A", "B12"), None, "it has B8, B8A, B12, but the codebook was fitted on B4, B3, B2"),
        (("B4", "B4", "B2"), None, "it has B4, B4, B2"),
        (("B4", "", "B2"), None, "it has B4, b2, B2"),
        (("B1", "B2", "B3"), None, "it has B1, B2, B3"),
        (("B2", "B3", "B4", "B8"), ("B8", "B3", "B2"), "--bands asks for B8, B3, B2"),
        (("B2", "B3", "B4", "B8"), (4, 2, 1), "--bands asks for B8, B3, B2"),
        (("B2", "B3", "B4", "B8"), ("B4", "B3", "B2", "B8"), "--bands asks for B4, B3, B2, B8"),
        (("B2", "B3", "B4"), ("B4", "B3", "B2-B3"), "--bands asks for B4, B3, B2-B3"),
    ],
)
def test_other_bands_are_refused_with_both_lists(names, asked, said):
    with pytest.raises(RasterError, match=r"--codebook-bands any") as caught:
        chosen(("B4", "B3", "B2"), names, asked)
    assert said in str(caught.value)
    assert "fitted on B4, B3, B2" in str(caught.value)
    assert chosen(("B4", "B3", "B2"), names, asked, by_order=True) == (asked or (1, 2, 3))


def test_asked_bands_are_put_into_the_order_of_the_codebook():
    names = ("B2", "B3", "B4")
    assert chosen(("B4", "B3", "B2"), names, ("b2", "B03", "b4")) == ("b4", "B03", "b2")
    assert chosen(("B4", "B3", "B2"), names, (1, 2, 3)) == (3, 2, 1)


def test_colours_are_names_too():
    colours = ("blue", "green", "red")
    assert chosen(("red", "green", "blue"), ("band 1", "band 2", "band 3"), colours=colours) == (3, 2, 1)
    assert given_names(Header(("x", "band 2", "band 3"), ("gray", "undefined", "red"))) == ("x", "", "red")


def test_names_and_expressions_of_a_codebook_are_looked_up_as_ever():
    bands = ("nir", "(nir - red)/(nir+red)")
    never = None
    assert FittedBands(bands, bands).in_raster(never) == bands
    asked = ("(NIR-red)/(nir+red)", "nir")
    header = lambda: Header(("red", "nir"))  # noqa: E731
    assert FittedBands(bands, bands, asked).in_raster(header) == ("nir", "(NIR-red)/(nir+red)")
    with pytest.raises(RasterError, match=r"asks for nir, \(nir\+red\)/\(nir-red\), but"):
        FittedBands(bands, bands, ("nir", "(nir+red)/(nir-red)")).in_raster(header)


def test_an_array_is_taken_by_name_where_it_has_names():
    fitted = FittedBands((1, 2, 3), ("red", "green", "blue"))
    assert fitted.in_array(Header(("blue", "nir", "red", "green"))) == (3, 4, 1)
    assert fitted.in_array(Header(("", "", ""))) == (1, 2, 3)
    assert fitted.in_array(Header(("b1", "b2", "b3"))) == (1, 2, 3)  # called by their numbers
    with pytest.raises(RasterError, match="it has b2, b1, b3, but"):
        fitted.in_array(Header(("b2", "b1", "b3")))
    assert FittedBands(("b1", "b2"), ("", "")).in_array(Header(("x y (10 m)", "z"))) == (1, 2)


def test_a_codebook_without_names_takes_bands_by_number():
    assert chosen(("", "", ""), ("B8", "B8A", "B12")) == (1, 2, 3)
    assert chosen(("", "", ""), ("B8", "B8A", "B12"), (3, 1, 2)) == (3, 1, 2)


@given(st.permutations(["red", "green", "blue", "nir", "swir 1"]), st.data())
def test_any_order_is_undone(names, data):
    fitted = tuple(data.draw(st.permutations(names)))[: data.draw(st.integers(1, 5))]
    numbers = chosen(fitted, tuple(names))
    assert tuple(names[n - 1] for n in numbers) == fitted


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    """Four single bands by name, and their files."""
    folder = tmp_path_factory.mktemp("bands")
    pixels = noise(4, 300, 260, high=4000, dtype="uint16")
    for name, band in zip(("blue", "red", "nir", "swir"), pixels, strict=True):
        write_geotiff(folder / f"{name}.tif", band[None])
    return folder, dict(zip(("blue", "red", "nir", "swir"), pixels, strict=True))


def described(path, bands, *names):
    write_geotiff(path, np.stack([bands[n] for n in names]))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    return str(path)


class Heard(Observer):
    """Keeps events."""

    def __init__(self, events):
        self._events = events

    def event(self, event):
        self._events.append(event)


def labels(out, **options):
    report = run(RunConfig(out=str(out), **options))
    assert not report.failed, report.failed
    (path,) = out.glob("*.tif")
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_stacks_and_files_are_labelled_by_name(bands, tmp_path):
    folder, pixels = bands
    stack = lambda *names: [(n, str(folder / f"{n}.tif")) for n in names]  # noqa: E731
    asked = {"segments": 4, "resolution": 2}
    wanted = labels(tmp_path / "fit", stack=stack("blue", "red", "nir"), **asked)
    book = str(tmp_path / "fit" / "codebook.npz")
    assert Codebook.load(book).band_names == ("blue", "red", "nir")
    again = labels(tmp_path / "a", stack=stack("nir", "blue", "red"), codebook=book)
    np.testing.assert_array_equal(again, wanted)
    file = described(tmp_path / "four.tif", pixels, "swir", "red", "blue", "nir")
    np.testing.assert_array_equal(labels(tmp_path / "b", sources=(file,), codebook=book), wanted)
    asked = {"sources": (file,), "codebook": book, "bands": ("nir", "blue", "red")}
    np.testing.assert_array_equal(labels(tmp_path / "c", **asked), wanted)
    refused = run(RunConfig(out=str(tmp_path / "d"), stack=stack("blue", "red", "swir"), codebook=book))
    assert "it has blue, red, swir, but the codebook was fitted on blue, red, nir" in str(refused.failed)
    by_order = labels(tmp_path / "e", stack=stack("nir", "blue", "red"), codebook=book, codebook_bands="any")
    assert (by_order != wanted).mean() > 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"segments": 9}, "--segments 9: the codebook has 4"),
        ({"resolution": 8}, "--resolution 8: the codebook has 2"),
        ({"scale": (0.0, 1.0)}, "--scale .*: the codebook has its own"),
        ({"seed": 7}, "--seed 7: the codebook has 0"),
        ({"fit": "exact"}, "--fit exact: the codebook has sample"),
    ],
)
def test_options_that_a_codebook_has_otherwise_are_refused(bands, tmp_path, options, said):
    folder, _ = bands
    sources = (str(folder / "red.tif"),)
    labels(tmp_path / "fit", sources=sources, segments=4, resolution=2)
    book = str(tmp_path / "fit" / "codebook.npz")
    with pytest.raises(UsageError, match=said):
        run(RunConfig(out=str(tmp_path / "o"), sources=sources, codebook=book, **options))
    assert not (tmp_path / "o").exists()
    labels(tmp_path / "same", sources=sources, codebook=book, segments=4, resolution=2, seed=0)


def test_a_raster_in_other_units_is_warned_of_and_its_record_says_so(tmp_path):
    pixels = noise(2, 600, 700, high=9000, dtype="uint16") + 1000
    same = write_geotiff(tmp_path / "same.tif", pixels)
    other = write_geotiff(tmp_path / "other.tif", pixels // 20)
    few = write_geotiff(tmp_path / "few.tif", np.where(np.arange(700) < 300, pixels // 20, pixels))
    labels(tmp_path / "fit", sources=(str(same),), segments=4)
    events = []
    options = {"codebook": str(tmp_path / "fit" / "codebook.npz"), "out": str(tmp_path / "o")}
    report = run(RunConfig(sources=(str(same), str(other), str(few)), **options), Heard(events))
    assert not report.failed
    said = [e.message for e in events if isinstance(e, Warned)]
    assert len(said) == 1
    assert said[0].startswith(f"{other}: 100% of its pixels lie outside the limits")
    shares = {
        n: json.loads((tmp_path / "o" / f"{n}.json").read_text())["outside_limits"]
        for n in ("same", "few", "other")
    }
    assert shares["same"] < 0.05
    assert 0.3 < shares["few"] < 0.5
    assert shares["other"] == 1
    assert "outside_limits" not in json.loads((tmp_path / "fit" / "same.json").read_text())


def test_a_batch_whose_rasters_have_their_bands_in_another_order_is_refused(bands, tmp_path):
    _, pixels = bands
    first = described(tmp_path / "a.tif", pixels, "blue", "red", "nir")
    second = described(tmp_path / "b.tif", pixels, "nir", "blue", "red")
    said = r"b\.tif: has its bands in the order nir, blue, red, not blue, red, nir; .* --bands blue,red,nir"
    with pytest.raises(UsageError, match=said):
        run(RunConfig(sources=(first, second), out=str(tmp_path / "o"), segments=3))
    by_name = {"sources": (first, second), "segments": 3, "bands": ("blue", "red", "nir")}
    assert not run(RunConfig(out=str(tmp_path / "p"), **by_name)).failed
    # one that is added later fails alone
    labels(tmp_path / "q", sources=(first,), segments=3)
    report = run(RunConfig(sources=(first, second), out=str(tmp_path / "q"), segments=3))
    assert report.skipped == ["a"]
    assert "has its bands in the order" in report.failed["b"]


RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")


def coloured(path, pixels, colours, names=(), place=0):
    """A raster of bands that show colours, and have names; gives its path."""
    where = rasterio.transform.from_origin(500000 + pixels.shape[2] * place, 5000000, 1, 1)
    write_geotiff(path, pixels, transform=where, photometric="minisblack")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[c] for c in colours]
        if names:
            dataset.descriptions = names
    return str(path)


MIXED = {
    "colours": ((RGB, ()), (BGR, ()), "red,green,blue"),
    "colours beside a band without": (
        ((*RGB, "undefined"), ()),
        ((*BGR, "undefined"), ()),
        "red,green,blue,b4",
    ),
    "colours beside names": ((RGB, ("B04", "B03", "B02")), (BGR, ()), "red,green,blue"),
    "names and colours": ((("gray",) * 3, RGB), (BGR, ()), "red,green,blue"),
    "letters": ((("gray",) * 3, tuple("RGB")), (("gray",) * 3, BGR), None),
    "some that the other has not": (
        (RGB, ()),
        (("green", "red", "undefined"), ("green", "red", "nir")),
        None,
    ),
}


@pytest.mark.parametrize("kind", MIXED)
def test_colours_in_another_order_are_refused_in_a_batch_and_a_mosaic(kind, tmp_path):
    one, other, bands = MIXED[kind]
    pixels = noise(len(one[0]), 64, 64)
    files = [coloured(tmp_path / f"{i}.tif", pixels, *of, place=i) for i, of in enumerate((one, other))]
    options = {"segments": 3, "workers": "1", "sources": tuple(files)}
    advice = "run them apart" if bands is None else f"choose them by name: --bands {bands}"
    with pytest.raises(UsageError, match=rf"1\.tif.* in the order .*, not .*; {advice}"):
        run(RunConfig(out=str(tmp_path / "o"), **options))
    with pytest.raises(UsageError, match=r"1\.tif does not .* in the order .*, not .*; put them in that"):
        run(RunConfig(out=str(tmp_path / "o"), mosaic=True, **options))
    if bands is not None:
        by_name = RunConfig(out=str(tmp_path / "p"), **options, bands=tuple(bands.split(",")))
        assert not run(by_name).failed


@pytest.mark.parametrize("mosaic", [False, True])
def test_the_same_numbers_of_other_colours_are_refused(mosaic, tmp_path):
    orders = enumerate((RGB, BGR))
    files = tuple(
        coloured(tmp_path / f"{i}.tif", noise(3, 64, 64), colours, place=i) for i, colours in orders
    )
    for bands, here in (((1, 2), "blue, green"), ((2, 1), "green, blue"), ((3,), "red")):
        with pytest.raises(UsageError, match=f"in the order {here}, not "):
            run(RunConfig(sources=files, out=str(tmp_path / "o"), bands=bands, mosaic=mosaic, segments=3))
    # green is in the same place
    options = {"bands": (2,), "mosaic": mosaic, "segments": 3}
    assert not run(RunConfig(sources=files, out=str(tmp_path / "p"), **options)).failed


def test_names_that_move_along_are_other_bands_and_no_other_order(tmp_path):
    grey = ("gray",) * 3
    names = [("2001", "2002", "2003"), ("2002", "2003", "2004")]
    files = [coloured(tmp_path / f"{i}.tif", noise(3, 64, 64), grey, of) for i, of in enumerate(names)]
    assert not run(RunConfig(sources=tuple(files), out=str(tmp_path / "o"), segments=3, workers="1")).failed


def test_colours_are_put_into_the_order_of_a_codebook_beside_bands_without(tmp_path):
    pixels = noise(4, 80, 90)
    first = coloured(tmp_path / "a.tif", pixels, (*RGB, "undefined"))
    other = coloured(tmp_path / "b.tif", pixels[[2, 1, 3, 0]], ("blue", "green", "undefined", "red"))
    wanted = labels(tmp_path / "fit", sources=(first,), segments=4)
    book = str(tmp_path / "fit" / "codebook.npz")
    found = labels(tmp_path / "o", sources=(other,), codebook=book)
    np.testing.assert_array_equal(found, wanted)
    array = pipeline.open_raster(other)
    np.testing.assert_array_equal(pipeline.segment(array, Codebook.load(book)).values, wanted)
    less = coloured(tmp_path / "c.tif", pixels[[2, 1, 0]], BGR)
    failed = run(RunConfig(sources=(less,), out=str(tmp_path / "p"), codebook=book)).failed["c"]
    assert "it has blue, green, red, but the codebook was fitted on red, green, blue, b4" in failed


def test_an_array_of_rioxarray_whose_bands_were_put_in_another_order_is_labelled_by_its_descriptions(
    tmp_path,
):
    import rioxarray

    path = coloured(tmp_path / "a.tif", noise(3, 80, 90), ("gray",) * 3, ("red", "nir", "swir"))
    array = rioxarray.open_rasterio(path)
    book = pipeline.fit(array, segments=4)
    wanted = pipeline.segment(array, book).values
    for order in ([2, 0, 1], [1, 0, 2]):
        np.testing.assert_array_equal(pipeline.segment(array.isel(band=order), book).values, wanted)


def test_a_plan_with_a_codebook_that_has_limits_comes_to_an_end(bands, tmp_path):
    folder, _ = bands
    sources = (str(folder / "red.tif"),)
    labels(tmp_path / "fit", sources=sources, segments=3)
    found = plan(RunConfig(sources=sources, codebook=str(tmp_path / "fit" / "codebook.npz")))
    assert found.as_json()


def test_names_are_kept_beside_conditions_and_expressions(bands, tmp_path):
    _, pixels = bands
    first = described(tmp_path / "a.tif", pixels, "red", "nir")
    other = described(tmp_path / "b.tif", pixels, "nir", "red")
    for number, options in enumerate(({"valid": "red >= 0"}, {"bands": (1, "nir-red")})):
        wanted = labels(tmp_path / f"w{number}", sources=(first,), segments=3, **options)
        book = str(tmp_path / f"w{number}" / "codebook.npz")
        assert Codebook.load(book).band_names[0] == "red"
        again = {k: v for k, v in options.items() if k == "valid"}
        found = labels(tmp_path / f"o{number}", sources=(other,), codebook=book, **again)
        np.testing.assert_array_equal(found, wanted)


def test_any_takes_bands_in_their_order_whatever_the_codebook_calls_them(bands, tmp_path):
    folder, _ = bands
    stack = lambda *names: [(n, str(folder / f"{f}.tif")) for n, f in names]  # noqa: E731
    first = stack(("red", "red"), ("nir", "nir"))
    wanted = labels(tmp_path / "fit", stack=first, bands=("red", "nir"), segments=3)
    options = {"codebook": str(tmp_path / "fit" / "codebook.npz"), "codebook_bands": "any"}
    found = labels(tmp_path / "o", stack=stack(("x", "red"), ("y", "nir")), **options)
    np.testing.assert_array_equal(found, wanted)


def test_tiles_of_a_mosaic_with_their_bands_in_another_order_are_refused(tmp_path):
    pixels = noise(3, 64, 64)
    for index, names in enumerate((("red", "green", "nir"), ("nir", "red", "green"))):
        place = rasterio.transform.from_origin(500000 + 64 * index, 5000000, 1, 1)
        path = write_geotiff(tmp_path / f"t{index}.tif", pixels, transform=place)
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = names
    with pytest.raises(UsageError, match=r"t1\.tif .*has its bands in the order nir, red, green"):
        run(RunConfig(sources=(str(tmp_path / "t*.tif"),), out=str(tmp_path / "o"), mosaic=True, segments=3))

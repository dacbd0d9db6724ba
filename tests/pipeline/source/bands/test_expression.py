"""Band arithmetic: what expressions are worth, and what is not one."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from engine.codebook import Codebook
from engine.grid import Window
from pipeline.config import RunConfig, build
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from pipeline.source.bands.computed import Computed
from pipeline.source.bands.evaluation import evaluate, holds
from pipeline.source.bands.expression import MAX_DEPTH, MAX_LENGTH, MAX_PARTS, names, parse, split
from pipeline.source.bands.options import read_bands, read_stack
from pipeline.source.opening import open_segmentable
from tests.rasters import noise, write_geotiff

NAMES = ("red", "nir", "b1", "_x9", "größe")


@pytest.fixture(scope="module")
def bands():
    rng = np.random.default_rng(3)
    found = {n: rng.normal(0, 50, (7, 9)).round(1) for n in NAMES}
    found["red"][0, :3] = [0, np.nan, np.inf]
    found["nir"][0, :2] = [0, -0.0]
    return found


def binary(mark, function):
    return lambda a, b: (f"({a[0]}{mark}{b[0]})", lambda v: function(a[1](v), b[1](v)))


def called(name, function):
    return lambda *a: (f"{name}({' , '.join(x[0] for x in a)})", lambda v: function(*(x[1](v) for x in a)))


LEAVES = st.sampled_from(NAMES).map(lambda n: (n, lambda v: v[n])) | st.sampled_from(
    ["0", "1", "2.5", ".5", "1e3", "1.5E-2", "7."]
).map(lambda t: (t, lambda v: np.float64(t)))


def powered(a, b):
    return f"({a[0]})**({b[0]})", lambda v: np.power(a[1](v), b[1](v))


def chosen(condition, a, b):
    """Of a condition (1, 0 or NaN) and two numbers."""

    def wanted(v):
        c = condition[1](v)
        return np.where(np.isnan(c), np.nan, np.where(c == 1, a[1](v), b[1](v)))

    return f"where({condition[0]}, {a[0]}, {b[0]})", wanted


def compared(mark, function):
    def known(x, y):
        return np.where(np.isnan(x) | np.isnan(y), np.nan, function(x, y))

    return lambda a, b: (f"{a[0]} {mark} {b[0]}", lambda v: known(a[1](v), b[1](v)))


def negated(a):
    return f"not ({a[0]})", lambda v: 1 - a[1](v)


def both(word):
    """`and` and `or` as minimum and maximum, which an unknown value leaves alone where they are decided."""
    decided, function = {"and": (0, np.minimum), "or": (1, np.maximum)}[word]

    def joined(x, y):
        return np.where((x == decided) | (y == decided), decided, function(x, y))

    return lambda a, b: (f"({a[0]}) {word} ({b[0]})", lambda v: joined(a[1](v), b[1](v)))


def conditions(numbers):
    two = st.tuples(numbers, numbers)
    functions = {"<": np.less, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal}
    plain = st.sampled_from(sorted(functions)).flatmap(
        lambda mark: two.map(lambda p: compared(mark, functions[mark])(*p))
    )
    return (
        plain
        | plain.map(negated)
        | st.tuples(st.sampled_from(["and", "or"]), plain, plain).map(lambda p: both(p[0])(p[1], p[2]))
    )


def grown(part):
    two = st.tuples(part, part)
    return st.one_of(
        two.map(lambda p: binary("+", np.add)(*p)),
        two.map(lambda p: binary(" - ", np.subtract)(*p)),
        two.map(lambda p: binary("*", np.multiply)(*p)),
        two.map(lambda p: binary("/", np.divide)(*p)),
        two.map(lambda p: called("min", np.minimum)(*p)),
        two.map(lambda p: called("max", np.maximum)(*p)),
        part.map(called("sqrt", np.sqrt)),
        part.map(called("abs", np.abs)),
        two.map(lambda p: powered(*p)),
        st.tuples(conditions(part), part, part).map(lambda p: chosen(*p)),
        part.map(lambda a: (f"-{a[0]}", lambda v: -a[1](v))),
        part.map(lambda a: (f"+{a[0]}", a[1])),
    )


@given(st.recursive(LEAVES, grown, max_leaves=12))
def test_an_expression_is_worth_what_numpy_says(bands, drawn):
    text, wanted = drawn
    node = parse(text)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(evaluate(node, bands), wanted(bands))
    assert set(names(node)) == {n for n in NAMES if n in text}


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("1+2*3", 7),
        ("1-2-3", -4),
        ("8/2/2", 2),
        ("-2*-3", 6),
        ("--2", 2),
        ("-(1+2)/3", -1),
        ("2*(3+4)", 14),
        ("1 - -1", 2),
        ("max(1,2,3)-min(4,5)", -1),
        ("sqrt(abs(-9))", 3),
        ("-2**2", -4),
        ("2**-1", 0.5),
        ("2**3**2", 512),
        ("2*3**2", 18),
        ("1+1 == 2", 1),
        ("1 < 2 and 2 < 1 or 3 >= 3", 1),
        ("not 1 == 2", 1),
        ("not not 5", 1),
        ("5 & 3 == 1", 1),
        ("1 | 2 & 6", 3),
        ("~5 & 7", 2),
        ("-~3", 4),
        ("~(1 == 2)", 1),
        ("(1 < 2) & (3 < 2)", 0),
        ("(1 < 2) | (3 < 2)", 1),
        ("3 in (3, 8, 9)", 1),
        ("1+1 in (3, 8, 9)", 0),
        ("4 not in (3, 8, 9)", 1),
        ("-1 in (-1, 0)", 1),
        ("where(2 > 1, 10, 20) + 1", 11),
        ("where(0, 1/0, 5)", 5),
        ("(2 > 1) * 7", 7),
    ],
)
def test_operators_bind_as_everywhere(text, worth):
    assert evaluate(parse(text), {}) == worth


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "a+", "*a", "(a", "a)", "()", "a,b", "f(a)", "min(a)", "sqrt(a,b)", "sqrt()", "a.b",
        "a[0]", "a***b", "a//b", "a%b", "a if b else c", "lambda: 0", "__import__('os')", "a;b", "a=b", "1 2",
        "2a", "1e999", "'a'", "a\\b", "{a}", "a\n+", "0x1f", "1_000", "a<b<c", "a in (1) in (0)",
        "a in 1", "a in ()", "a in (1,)", "a not (1)", "a not", "not", "and a", "a and", "a or or b", "a==",
        "a=>b", "a!b", "a<>b", "a^b", "a<<1", "a && b", "a || b", "!a", "a > 3 & b < 2", "(a > 3) & b",
        "a | (b == 1)", "in", "where(a, b)", "where(a, b, c, d)", "a** ", "** a", "~", "a ~ b", "a is b",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_on_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "expression" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("+".join(["a"] * (MAX_LENGTH // 2 + 1)), "characters"),
        ("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), "nested deeper"),
        ("abs(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), "nested deeper"),
        ("-" * 999 + "a", "signs"),
        ("~" * 999 + "a", "signs"),
        ("not " * 200 + "a", "signs"),
        ("2**" * 200 + "2", "nested deeper"),
        ("a in (" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "nested deeper"),
        ("a in (" + ",".join(["1"] * 600) + ")", "characters"),
        ("+".join(["a"] * (MAX_PARTS + 2)), "parts"),
    ],
)
def test_expressions_are_bounded(text, limit):
    with pytest.raises(UsageError, match=limit):
        parse(text)
    # what is just within the bounds is worth something
    assert evaluate(parse("(" * (MAX_DEPTH - 1) + "1" + ")" * (MAX_DEPTH - 1)), {}) == 1


SCRAPS = st.lists(
    st.sampled_from(
        "a b 1 2.5 ( ) , + - * / ** < <= > >= == != & | ~ and or not in where min sqrt".split()  # noqa: SIM905
    ),
    max_size=16,
).map(" ".join)


@given(st.text("ab1.(),+-*/ e\n_é\x00'\"[]{}=<>!&|~", max_size=40) | SCRAPS)
def test_any_text_is_an_expression_or_refused(text):
    try:
        node = parse(text)
    except UsageError:
        return
    assert set(names(node)) <= set(
        "".join(c if c.isidentifier() or c.isdigit() else " " for c in text).split()
    )


def test_a_list_is_split_at_the_commas_outside_of_parentheses():
    assert split("a,min(b,c),d") == ["a", "min(b,c)", "d"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("4,3, 2", (4, 3, 2)),
        (3, (3,)),
        ([1, "b2", "3"], (1, "b2", 3)),
        ("red,( nir - red ) / (nir+red)", ("red", "(nir-red)/(nir+red)")),
        ("max(b1, b2)", ("max(b1,b2)",)),
        ("a,where( b  not in (1, 2) and c == 3 , b, c ** 2 )", ("a", "where(b not in(1,2)and c==3,b,c**2)")),
        (None, None),
    ],
)
def test_bands_are_numbers_names_and_expressions(said, meant):
    assert read_bands(said) == meant
    assert read_bands(None if meant is None else list(meant)) == meant


@pytest.mark.parametrize(
    "said", ["", "1,,2", "0", "-1", "a b", [], [True], [1.5], {"a": 1}, "9" * 30, [None]]
)
def test_bands_that_mean_nothing_are_refused_and_the_option_is_named(said):
    with pytest.raises(UsageError, match=r"^--bands"):
        build({"bands": said})


def test_plain_numbers_in_a_configuration_and_in_a_codebook_stay_what_they_were(tmp_path):
    config = RunConfig(bands=(3, 1))
    assert config.bands == (3, 1)
    assert config.meaning["bands"] == [3, 1]
    plain = Codebook(
        centres=np.arange(6, dtype=np.float32).reshape(2, 3),
        kernel={"name": "kmeans", "resolution": 1},
        bands=(1, 2, 3),
        dtype="uint8",
        band_mean=np.zeros(3),
    )
    # the hash that it had when bands were numbers only
    assert plain.content_hash == "121edf7dcde96ef76957013125d72ba5ff2f249be4a0ee1c645cf43ad4069292"
    named = replace(plain, bands=("red", 2, "(nir-red)/(nir+red)"))
    assert named.content_hash != plain.content_hash
    for book in (plain, named):
        (tmp_path / "c.npz").write_bytes(book.to_bytes())
        again = Codebook.load(tmp_path / "c.npz")
        assert (again.bands, again.content_hash) == (book.bands, book.content_hash)


@pytest.mark.parametrize(
    "said", ["x", "a=", "=f", "a=f,a=g", "a=f,A=g", "a b=f", "sqrt=f", "where=f", "", [["a"]], [1]]
)
def test_a_stack_that_means_nothing_is_refused_and_the_option_is_named(said):
    with pytest.raises(UsageError, match=r"^--stack"):
        build({"stack": said})


@pytest.mark.parametrize(
    "said",
    ["b4=a,b.tif,b3=c d.tif", {"b4": "a,b.tif", "b3": "c d.tif"}, [["b4", "a,b.tif"], ("b3", "c d.tif")]],
)
def test_a_stack_is_names_and_files_however_it_is_written(said):
    wanted = (("b4", "a,b.tif"), ("b3", "c d.tif"))
    assert read_stack(said) == (("", wanted),)
    # several are a list of these, whose bands may come in any order, or have names
    assert read_stack([said, dict(reversed(wanted))]) == (("", wanted), ("", wanted))
    assert read_stack({"S1": dict(wanted)}) == read_stack([["S1", wanted]]) == (("S1", wanted),)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("a < 1", [1, 0, None, 0]),
        ("not a < 1", [0, 1, None, 1]),
        ("a < 1 or b == 0", [1, 1, 1, 0]),
        ("a < 1 and b == 0", [1, 0, None, 0]),
        ("a in (0, 7)", [1, 0, None, 0]),
        ("where(a < 1, 5, 6)", [5, 6, None, 6]),
        ("where(b == 0, 0, a / b)", [0, 0, 0, np.inf]),
        ("where(b != 0, 1, 1 / b)", [np.inf, np.inf, np.inf, 1]),
        ("a & 1", [0, 1, None, None]),
        ("c & 1", [None, None, None, 0]),
    ],
)
def test_what_depends_on_an_unknown_value_is_unknown_unless_the_rest_decides(text, worth):
    values = {
        "a": np.array([0, 1, np.nan, np.inf]),
        "b": np.array([0.0, 0, 0, 2]),
        "c": np.array([2.0**53, 0.5, -np.inf, -(2.0**52)]),
    }
    np.testing.assert_array_equal(evaluate(parse(text), values), np.array(worth, float))
    holding = [w is not None and w != 0 for w in worth]
    np.testing.assert_array_equal(holds(parse(text), values), holding)


@given(st.integers(-(2**52), 2**52), st.integers(-(2**52), 2**52))
def test_bits_of_whole_numbers_are_those_of_integers(a, b):
    values = {"a": np.array([float(a)]), "b": np.array([float(b)])}
    for text, wanted in (("a & b", a & b), ("a | b", a | b), ("~a", ~a), ("(a & ~b) | 8", (a & ~b) | 8)):
        assert evaluate(parse(text), values) == float(wanted)


def test_a_power_is_the_same_however_an_array_is_cut():
    rng = np.random.default_rng(1)
    a, b = rng.normal(3, 2, 4099), rng.normal(0, 2, 4099)
    node = parse("a**b + a**0.5 + a**3")
    whole = evaluate(node, {"a": a, "b": b})
    for step in (1, 3, 7, 100, 1024):
        pieces = [
            evaluate(node, {"a": a[i : i + step], "b": b[i : i + step]}) for i in range(0, len(a), step)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


# Bands of rasters by name, and computed ones


@pytest.fixture
def four_bands(tmp_path):
    """A raster of uint16 with two described bands and nodata, and its pixels."""
    pixels = noise(4, 300, 41, high=3000, dtype="uint16")
    pixels[0, 5, 5] = pixels[1, 6, 6] = 0
    path = write_geotiff(tmp_path / "r.tif", pixels, nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", None, "Near infrared", "twice")
    return path, pixels


def test_bands_by_name_keep_their_dtype_and_order(four_bands):
    path, pixels = four_bands
    raster = open_segmentable(path, ("near_infrared", "b2", "Red"))
    assert (raster.dtype, raster.bands) == ("uint16", ("near_infrared", "b2", "Red"))
    read, valid = raster.read(raster.bounds)
    np.testing.assert_array_equal(read, pixels[[2, 1, 0]])
    np.testing.assert_array_equal(valid, (pixels[:3] != 0).all(axis=0))


def test_an_index_is_a_band_of_float32_without_what_is_not_finite(four_bands):
    path, pixels = four_bands
    raster = open_segmentable(path, (2, "(near_infrared-red)/(near_infrared-b2)"))
    assert isinstance(raster, Computed)
    assert raster.dtype == "float32"
    assert raster.pixel_bytes > 4 * 3
    read, valid = raster.read(raster.bounds)
    red, second, nir = pixels[:3].astype(np.float64)
    with np.errstate(all="ignore"):
        wanted = ((nir - red) / (nir - second)).astype(np.float32)
    np.testing.assert_array_equal(read[0], pixels[1])
    np.testing.assert_array_equal(read[1], wanted)
    np.testing.assert_array_equal(valid, (pixels[:3] != 0).all(axis=0) & np.isfinite(wanted))
    part = Window(250, 3, 50, 20)
    np.testing.assert_array_equal(
        raster.read_stack(part), raster.read_stack(raster.bounds)[:, *part.slices()]
    )


def test_colours_are_names_where_bands_have_no_descriptions(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(3, 9, 9), photometric="RGB")
    assert (
        open_segmentable(path, ("green",)).read(Window(0, 0, 9, 9))[0].tolist()
        == noise(3, 9, 9)[1:2].tolist()
    )


@pytest.mark.parametrize(
    ("bands", "said"),
    [
        (("blue",), "has no band 'blue'; it has red, b2, Near infrared, twice"),
        (("red*2+green",), "has no band 'green'"),
        (("b9/b1",), "has bands 1 to 4, not 9"),
    ],
)
def test_a_name_that_is_no_band_is_refused_with_those_that_are(four_bands, bands, said):
    path, _ = four_bands
    with pytest.raises(RasterError) as caught:
        open_segmentable(path, bands)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("bands", "constant"),
    [(("1+1",), "1+1"), (("1+0", "b2"), "1+0"), (("b1", "(1-2)/(1+2)"), "(1-2)/(1+2)")],
)
def test_an_expression_of_no_band_is_refused_beside_others_too(four_bands, bands, constant):
    path, _ = four_bands
    said = f"--bands: {constant} names no band; in an expression the first band is b1"
    with pytest.raises(UsageError, match=re.escape(said)):
        open_segmentable(path, bands)


def test_a_name_of_two_bands_is_refused(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(2, 5, 5))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "Red")
    with pytest.raises(RasterError, match="say b1 or b2"):
        open_segmentable(path, ("red",))


def test_a_run_on_an_index_has_the_same_labels_in_every_chunking(four_bands, tmp_path):
    path, _ = four_bands
    found = []
    for i, (chunk, workers) in enumerate([(512, "1"), (2048, "2"), (512, "processes:1")]):
        out = tmp_path / str(i)
        config = RunConfig(
            sources=(str(path),),
            out=str(out),
            bands="red,(near_infrared-red)/(near_infrared+red)",
            chunk_size=chunk,
            workers=workers,
            segments=4,
            resolution=2,
        )
        assert not run(config).failed
        with rasterio.open(out / "r.tif") as dataset:
            found.append((Codebook.load(out / "codebook.npz").content_hash, dataset.read(1).tobytes()))
    assert len(set(found)) == 1
    # the codebook remembers what its bands are, and asks for them again
    config = RunConfig(
        sources=(str(path),), out=str(tmp_path / "again"), codebook=str(tmp_path / "0" / "codebook.npz")
    )
    assert not run(config).failed
    with rasterio.open(tmp_path / "again" / "r.tif") as dataset:
        assert dataset.read(1).tobytes() == found[0][1]

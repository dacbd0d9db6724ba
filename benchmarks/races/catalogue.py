"""The events of a sitting: who races whom on which raster, and what the goal is.

An event is a few contenders in one race, so that their ratios hold whatever slows the machine that day.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks import clock, data
from benchmarks.races import peers
from benchmarks.races.contenders import (
    SEGMENTS,
    THREADS,
    Contender,
    Pair,
    cnn,
    copy,
    itself,
    kmeans,
    module,
    old_system,
    ours,
)

_COPY_GOALS = {10_240: 0.40, 24_576: 0.25}
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Event:
    """One race.

    Parameters
    ----------
    name
        For the command line.
    title
        For the results.
    sizes
        Sides of the rasters that it is run on, one after the other.
    lineup
        From a size to who takes part and what is compared.
    grain
        Of its raster, in grey levels: see `data.photo`.
    """

    name: str
    title: str
    sizes: tuple[int, ...]
    lineup: Callable[[int], tuple[list[Contender], list[Pair]]]
    grain: int = 0

    def at(self, size_px: int) -> tuple[list[Contender], list[Pair]]:
        """Contenders and pairs on a raster; goals are for the sizes of the event."""
        contenders, pairs = self.lineup(size_px)
        if size_px not in self.sizes:
            pairs = [replace(p, at_most=None, at_least=None) for p in pairs]
        return contenders, pairs


def floor(what: str, about: str) -> Contender:
    """A part of a run by itself, on the raster."""
    return itself(
        f"floor-{what}",
        f"{about}, {THREADS} threads (`benchmarks/races/floors.py`)",
        lambda source, _: module("benchmarks.races.floors", what, source, "--threads", THREADS),
    )


def _floor_encode(size_px: int) -> Contender:
    about = f"encoding labels in memory, all levels, {THREADS} threads (`benchmarks/races/floors.py`)"
    labels = data.labels(data.photo(size_px))
    return itself(
        "floor-encode",
        about,
        lambda *_: module("benchmarks.races.floors", "encode", labels, "--threads", THREADS),
    )


def _kmeans(size_px: int) -> tuple[list[Contender], list[Pair]]:
    hand, others = peers.by_hand(), peers.peers()
    contenders = [
        ours("tilewright-r1", *kmeans(1)),
        ours("tilewright-r4", *kmeans(4)),
        copy(),
        old_system("old-system-r1", *kmeans(1)),
        old_system("old-system-r4", *kmeans(4)),
        floor("decode", "decoding all pixels"),
        floor("assign", "assigning pixels in memory, R = 1"),
        _floor_encode(size_px),
        hand,
        *others,
    ]
    pairs = [
        Pair("tilewright-r1", "copy", at_most=_COPY_GOALS.get(size_px)),
        Pair("tilewright-r4", "copy"),
        Pair("tilewright-r1", "old-system-r1", at_most=0.20),
        Pair("tilewright-r4", "old-system-r4"),
        Pair("old-system-r1", "copy"),
        *(Pair("tilewright-r1", f"floor-{what}") for what in ("decode", "assign", "encode")),
        *(Pair("tilewright-r1", peer.name) for peer in (hand, *others)),
    ]
    return contenders, pairs


def _grainy(size_px: int) -> tuple[list[Contender], list[Pair]]:
    contenders = [ours("tilewright-r1", *kmeans(1)), ours("tilewright-r4", *kmeans(4)), copy()]
    return contenders, [
        Pair("tilewright-r1", "copy", at_most=_COPY_GOALS.get(size_px)),
        Pair("tilewright-r4", "copy"),
    ]


def loaded(model: object, threads: int | None = None) -> Contender:
    """A network as it was first loaded."""
    return itself(
        "bare-loaded",
        "the bare network as first loaded: TorchScript, float32, 512 x 512, a thread per core",
        lambda *_: module("benchmarks.races.bare", "loaded", model, "--threads", threads or clock.cores()),
    )


def bare(name: str, model: object, processes: int, threads: int, seconds: float = 4.0) -> Contender:
    """A network in the form of a run."""
    how = f"{processes} x {threads} threads" if processes == 1 else f"{processes} processes"
    options = ("--processes", processes, "--threads", threads, "--seconds", seconds)
    return itself(
        name,
        f"the bare network in the form of a run, a block of cells a thread, {how}",
        lambda *_: module("benchmarks.races.bare", "ours", model, *options),
    )


def _cnn(stride_px: int) -> Callable[[int], tuple[list[Contender], list[Pair]]]:
    def lineup(_size_px: int) -> tuple[list[Contender], list[Pair]]:
        model = data.network(stride_px)
        contenders = [
            ours("tilewright", *cnn(model)),
            old_system("old-system", "--segments", SEGMENTS, "--model", model),
            loaded(model),
            bare("bare-ours", model, 1, THREADS),
        ]
        rate = 3.5 if any(map(shutil.which, _COMPILERS)) else 1.9
        pairs = [
            Pair("tilewright", "bare-loaded", at_most=1 / rate if stride_px == 4 else None),
            Pair("tilewright", "bare-ours", at_most=1 / 0.85),
            Pair("tilewright", "old-system", at_most=1 / 6),
            Pair("bare-ours", "bare-loaded"),
        ]
        return contenders, pairs

    return lineup


def _mapped_by(model: object, workers: int) -> Contender:
    return itself(
        f"map-{workers}-worker{'s' if workers > 1 else ''}",
        f"the map by a network with `--workers {workers}` (`benchmarks/parts/mapping.py`)",
        lambda source, out: module(
            "benchmarks.parts.mapping", source, out, "--model", model, "--workers", workers
        ),
    )


def _workers(_size_px: int) -> tuple[list[Contender], list[Pair]]:
    model = data.network(4)
    contenders = [
        *(_mapped_by(model, workers) for workers in (1, 2)),
        bare("bare-1-process", model, 1, 1),
        bare("bare-2-processes", model, 2, 1),
    ]
    over = ("bare-2-processes", "bare-1-process")
    return contenders, [Pair("map-2-workers", "map-1-worker", at_most=1 / 0.95, over=over)]


def sinks(labels: object, threads: int = THREADS) -> list[Contender]:
    """Our COG sink and GDAL's, on the labels of a file."""
    return [
        itself(
            name,
            f"{about} from labels in memory, {threads} threads",
            lambda _, out, sink=sink: module(
                "benchmarks.parts.sinks", sink, labels, out / "out.tif", "--threads", threads
            ),
        )
        for name, sink, about in (("sink-ours", "ours", "our COG"), ("sink-gdal", "gdal", "GDAL's COG"))
    ]


def _sink(size_px: int) -> tuple[list[Contender], list[Pair]]:
    return sinks(data.labels(data.photo(size_px))), [Pair("sink-ours", "sink-gdal", at_most=0.7)]


def mapped(halo_px: int) -> Contender:
    """The map of a run with a halo."""
    return itself(
        f"map-halo-{halo_px}",
        f"the map by K-Means, R = 1, told to need a halo of {halo_px} px (`benchmarks/parts/mapping.py`)",
        lambda source, out: module(
            "benchmarks.parts.mapping", source, out, "--halo", halo_px, "--workers", THREADS
        ),
    )


def _halo(_size_px: int) -> tuple[list[Contender], list[Pair]]:
    return [mapped(0), mapped(16)], [Pair("map-halo-16", "map-halo-0", at_most=1.1)]


def _scale(size_px: int) -> tuple[list[Contender], list[Pair]]:
    small = max(1, size_px // 3)
    contenders = [
        ours(f"tilewright-{side}", "--segments", SEGMENTS, size_px=side) for side in (small, size_px)
    ]
    return contenders, [Pair(f"tilewright-{size_px}", f"tilewright-{small}", at_most=1.05)]


def _plan(*options: object) -> tuple[list[Contender], list[Pair]]:
    plan = itself(
        "plan",
        "what `plan` foretells of the run, seconds and memory",
        lambda source, _: module("benchmarks.races.planned", source, *options),
    )
    goal = {"at_least": 1 / 1.25, "at_most": 1.25}
    pairs = [Pair("plan", "tilewright", **goal), Pair("plan", "tilewright", memory=True, **goal)]
    return [ours("tilewright", *options), plan], pairs


def _start(_size_px: int) -> tuple[list[Contender], list[Pair]]:
    code = "import torch, rasterio, dask"
    imports = Contender(
        "imports",
        f"`python -c '{code}'`",
        lambda *_: [*module("x")[:1], "-c", code],
        leaves_raster=False,
    )
    return [ours("tilewright", "--segments", 6), imports], [Pair("tilewright", "imports", 3.0, beyond=True)]


EVENTS = (
    Event("kmeans", "K-Means, whole commands", (10_240, 24_576), _kmeans),
    Event("kmeans-grain", "K-Means on a picture with grain", (10_240, 24_576), _grainy, grain=4),
    Event("cnn4", "a network of stride 4", (4096, 8192), _cnn(4)),
    Event("cnn8", "a network of stride 8", (4096, 8192), _cnn(8)),
    Event("cnn16", "a network of stride 16", (4096, 8192), _cnn(16)),
    Event("workers", "two workers beside one, a network of stride 4", (4096,), _workers),
    Event("sink", "the COG sink", (10_240,), _sink),
    Event("halo", "what a halo costs", (10_240,), _halo),
    Event("scale", "time a pixel on a raster nine times as large", (24_576,), _scale),
    Event("plan", "the plan of a K-Means run beside the run", (10_240,), lambda _: _plan(*kmeans(1))),
    Event(
        "plan-cnn",
        "the plan of a run with a network beside the run",
        (3072,),
        lambda _: _plan(*cnn(data.network(16))),
    ),
    Event("start", "start-up: a small raster, end to end", (1000,), _start),
)
"""In the order in which a sitting runs them."""

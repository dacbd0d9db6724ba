"""The built-in demo scene: a synthetic orthophoto with known truth, made window by window.

A pixel is a pure function of its position, the scene's size and its seed, so windows of any shape agree.
Sines and matrix products are avoided because processors round them differently: the scene is bit-identical
on all of them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import CELL_PX
from engine.hashing import grid_hash
from pipeline.durable.files import whole_file

Plane = npt.NDArray[Any]
U8 = npt.NDArray[np.uint8]

CLASS_NAMES: tuple[str, ...] = ("water", "forest", "crop or grass", "soil", "road", "red roof", "bright roof")
NODATA = 255  # in truth and labels; the image's is 0
PALETTE = (52, 104, 168, 28, 88, 44, 140, 190, 92, 206, 168, 112, 110, 110, 116, 196, 70, 52, 240, 236, 226)

# Per surface: class, red, green, blue, strength of crop rows, grain, chance that a tree stands there.
_SURFACES = np.array([
    (0, 60, 85, 98, 0, 0.03, 0), (0, 52, 76, 90, 0, 0.02, 0),  # 0 river, 1 pond
    (1, 44, 62, 40, 0, 0.25, 0.97), (1, 54, 74, 44, 0, 0.18, 0),  # 2 wood, 3 broadleaf
    (1, 42, 62, 44, 0, 0.18, 0),  # 4 conifer
    (2, 114, 142, 76, 0.07, 0.08, 0.004), (2, 98, 130, 64, 0.1, 0.12, 0.002),  # 5-6 crops
    (2, 120, 144, 84, 0.02, 0.1, 0.02), (2, 136, 152, 84, 0.05, 0.07, 0.002),  # 7 meadow, 8 ripening
    (2, 106, 132, 78, 0, 0.08, 0.17), (3, 172, 146, 114, 0.06, 0.06, 0),  # 9 lawn, 10 soil
    (3, 158, 130, 102, 0.08, 0.07, 0), (3, 190, 166, 126, 0.06, 0.07, 0),  # 11 moist soil, 12 stubble
    (3, 182, 162, 132, 0, 0.07, 0), (4, 110, 111, 118, 0, 0.04, 0),  # 13 farm track, 14 asphalt
    (4, 130, 129, 131, 0, 0.05, 0), (4, 206, 206, 200, 0, 0.02, 0),  # 15 paving, 16 road marking
    (5, 164, 84, 66, 0, 0.06, 0), (5, 174, 98, 76, 0, 0.06, 0), (5, 144, 76, 64, 0, 0.06, 0),  # 17-19 tiles
    (6, 218, 214, 207, 0, 0.02, 0), (6, 202, 205, 209, 0, 0.04, 0),  # 20-21 sheet, gravel
], np.float32)  # fmt: skip
_CLASS, _ROWS, _GRAIN, _TREES = _SURFACES[:, (0, 4, 5, 6)].T
_CROPS = np.array([5, 5, 6, 6, 7, 7, 8, 10, 10, 11, 12, 12])
_ROOFS = np.array([17, 17, 18, 18, 19, 20, 20, 21])
_FIELD, _TOWN, _WORKS, _POND = range(4)
_COVER = np.array([0, 9, 15, 7])  # surface of a block's ground, by use ...
_LOT = np.array([86, 86, 150, 86], np.float32)  # ... and the size of its lots
# Lengths below are in layout units: pixels of a scene of the default size or larger.
_COS, _SIN, _BLOCK = 24 / 25, 7 / 25, (520, 430)  # direction of the road grid, mean size of its blocks
_TREE, _SUN = 30, (20, 13)  # at most one tree per square of this side; where the shadow of a roof falls


def _uniform(rows: npt.ArrayLike, cols: npt.ArrayLike, salt: int) -> Plane:
    """Uniform float32 in [0, 1), by integer position."""
    return (grid_hash(salt, rows, cols) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def _noise(y: Plane, x: Plane, cell: float, salt: int) -> Plane:
    """Smooth float32 in [-1, 1) at the crossings of ascending rows and columns; (len(y), len(x))."""
    i, j = (np.floor(v / cell).astype(np.int64) for v in (y, x))
    s, t = ((f * f * (3 - 2 * f)).astype(np.float32) for f in (y / cell - i, x / cell - j))
    grid = 2 * _uniform(np.arange(i[0], i[-1] + 2)[:, None], np.arange(j[0], j[-1] + 2), salt) - 1
    lines = grid[:, j - j[0]] + (grid[:, j - j[0] + 1] - grid[:, j - j[0]]) * t
    return np.asarray(lines[i - i[0]] + (lines[1:] - lines[:-1])[i - i[0]] * s[:, None])


def _wave(t: Plane) -> Plane:
    """A wave of period 1 between -1 and 1, made of parabolas."""
    f = t % 1 - 0.5
    return np.asarray(8 * f * (1 - 2 * np.abs(f)))


def _cells(v: Plane, size: float, salt: int) -> tuple[Plane, Plane, Plane]:
    """Cells of unequal length along an axis: each point's cell, and its distances to the cell's two ends."""
    i = np.floor(v / size).astype(np.int64)
    numbers = np.arange(i.min() - 1, i.max() + 3)
    ends = (numbers.astype(np.float32) + 0.35 * _uniform(numbers, 0, salt)) * size
    i -= v < ends[i - numbers[0]]
    return i, v - ends[i - numbers[0]], ends[i - numbers[0] + 1] - v


@dataclass(frozen=True)
class Scene:
    """A synthetic aerial scene; small ones shrink the layout, so that every class still occurs.

    Parameters
    ----------
    width, height
        Size in pixels of 0.2 m.
    seed
        Chooses the scene.
    """

    width: int = 3072
    height: int = 2560
    seed: int = 7

    def window(self, row: int, col: int, height: int, width: int) -> tuple[U8, U8]:
        """The window of height x width pixels from (row, col) on.

        Returns
        -------
        rgb
            uint8, (3, height, width): all bands 0 without data, all at least 1 elsewhere.
        truth
            uint8, (height, width): index into `CLASS_NAMES`, 255 without data.
        """
        if row < 0 or col < 0 or row + height > self.height or col + width > self.width:
            raise ValueError(f"window {(row, col, height, width)} leaves {self}")
        rgb, truth = np.empty((3, height, width), np.uint8), np.empty((height, width), np.uint8)
        for top in range(0, height, 64):  # thin strips keep the float planes in the processor's cache
            y, x = np.arange(row + top, row + min(top + 64, height)), np.arange(col, col + width)
            rgb[:, top : top + 64], truth[top : top + 64] = _photo(_Ground(self, y, x))
        return rgb, truth


class _Ground:
    """The ground without trees where rows `y` and columns `x` cross.

    `surface` (row of `_SURFACES`), `gain` (brightness) and `use` (of the block) have shape (len(y), len(x)).
    The following have that shape for each of the two directions of the road grid: `axes`, the position in
    layout units; `number`, the block; `near` and `far`, the distances to the block's ends.
    """

    def __init__(self, scene: Scene, y: Plane, x: Plane) -> None:
        self.scene, self.y, self.x, self.salt = scene, y, x, scene.seed * 64
        self.unit = min(1.0, scene.width / 3072, scene.height / 2560)
        self.u, self.v = x / scene.width, (y / scene.height)[:, None]
        u, v = x / self.unit, (y / self.unit)[:, None]
        straight = (u * _COS + v * _SIN, v * _COS - u * _SIN)
        self.axes = [s.astype(np.float32) + 70 * self.noise(1100, k) for k, s in enumerate(straight)]
        cells = [_cells(self.axes[k], size, self.salt + 4 + k) for k, size in enumerate(_BLOCK)]
        self.number, self.near, self.far = zip(*cells, strict=True)
        i, j = (np.arange(n.min(), n.max() + 1) for n in self.number)
        self.blocks = np.repeat(i, len(j)), np.tile(j, len(i))
        self.block = (self.number[0] - i[0]) * len(j) + self.number[1] - j[0]
        self.use = self.uses()[self.block]
        self.fields()
        self.lots()
        self.roads(self.water())

    def noise(self, cell: float, salt: int) -> Plane:
        return _noise(self.y, self.x, cell * self.unit, self.salt + salt)

    def uses(self) -> Plane:
        """The use of each block: a town right of the middle, two ponds, fields elsewhere."""
        (i, j), width, height = self.blocks, self.scene.width / self.unit, self.scene.height / self.unit
        a, b = (i + 0.67) * _BLOCK[0], (j + 0.67) * _BLOCK[1]
        u, v = (a * _COS - b * _SIN) / width, (a * _SIN + b * _COS) / height
        use = np.where(((u - 0.64) / 0.27) ** 2 + ((v - 0.41) / 0.3) ** 2 < 1, _TOWN, _FIELD)
        use[(use == _TOWN) & (u > 0.66) & (_uniform(i, j, self.salt + 3) < 0.3)] = _WORKS
        for x, y in ((0.46 * width, 0.82 * height), (0.9 * width, 0.1 * height)):
            at = (x * _COS + y * _SIN) // _BLOCK[0], (y * _COS - x * _SIN) // _BLOCK[1]
            use[(i == at[0]) & (j == at[1])] = _POND
        return use

    def fields(self) -> None:
        """Strips of one crop each with rows, tramlines and a grassy edge; woods of irregular outline."""
        i, j = self.blocks
        turned = (_uniform(i, j, self.salt + 6) < 0.5)[self.block]
        count = np.floor(2 + 3 * _uniform(i, j, self.salt + 7))[self.block]
        near, far, across = (np.where(turned, *pair) for pair in (self.near, self.far, self.axes))
        position = near / (near + far) * count
        parcel = self.block * 4 + position.astype(np.int64)
        drawn = _uniform(i[:, None] * 4 + np.arange(4), j[:, None], self.salt + 8).ravel()
        surface = _CROPS[(drawn * len(_CROPS)).astype(np.int64)][parcel]
        gain = (0.91 + drawn * 997 % 0.18)[parcel] * (1 + _ROWS[surface] * _wave(across * (self.unit / 7.3)))
        gain[(np.abs(np.abs(across / 96 % 1 - 0.5) - 0.05) < 0.018) & (surface != 7)] *= 0.86
        edge = position % 1 * (near + far) < 6 * count
        surface[edge], gain[edge] = 7, 0.88
        u, v = self.u, self.v
        corner = np.maximum(1.1 - 9 * ((u - 0.86) ** 2 + (v - 0.98) ** 2), 0.9 - 14 * (u**2 + (v - 0.3) ** 2))
        wood = corner + self.noise(330, 10) > 0.55
        surface[wood], gain[wood] = 2, 1
        self.surface = np.where(self.use == _FIELD, surface, _COVER[self.use])
        self.gain = np.where(self.use == _FIELD, gain, np.float32(1))

    def lots(self) -> None:
        """Houses and halls, one per lot, and the shadow each casts on its own block."""
        at = np.flatnonzero((self.use == _TOWN) | (self.use == _WORKS))
        key = grid_hash(self.salt + 9, *self.blocks)[self.block.flat[at]] >> np.uint64(2)
        near, far = ([n.flat[at] - 22 for n in pair] for pair in (self.near, self.far))
        lot = _LOT[self.use.flat[at]]
        surface, gain = _roofs(near, far, lot, key)
        for share in (0.3, 0.55, 0.8, 1.0):  # a box's shadow, in steps shorter than a house
            back = [n - share * step for n, step in zip(near, _SUN, strict=True)]
            ahead = [n + share * step for n, step in zip(far, _SUN, strict=True)]
            self.gain.flat[at[(_roofs(back, ahead, lot, key)[0] >= 17) & (surface < 17)]] = 0.55
        at, surface, gain = (values[surface > 0] for values in (at, surface, gain))
        self.surface.flat[at] = surface
        self.gain.flat[at] *= gain

    def water(self) -> Plane:
        """Add a river from top to bottom, and ponds, with green banks; returns True on water and banks."""
        bend, swell = (_noise(self.y, np.zeros(1), cell * self.unit, self.salt + 11) for cell in (400, 300))
        middle = self.scene.width * (0.25 + 0.05 * _wave(0.9 * self.v)) / self.unit + 90 * bend
        river = 62 + 15 * swell - np.abs(self.x / self.unit - middle)
        shore = np.minimum(*(n * f / (n + f) for n, f in zip(self.near, self.far, strict=True)))
        pond = np.where(self.use == _POND, shore - 42 + 14 * self.noise(120, 13), -99)
        deep = np.maximum(river, pond) + 3 * self.noise(40, 14)
        bank, wet = deep > -16, deep > 0
        self.surface[bank], self.gain[bank] = 9, 0.92
        self.surface[wet] = (pond > river)[wet]
        self.gain[wet] = (1.22 - 0.22 * np.minimum(deep / 25, 1))[wet]
        return np.asarray(bank)

    def roads(self, water: Plane) -> None:
        """Roads between the blocks; only the major ones cross water."""
        town = (self.use == _TOWN) | (self.use == _WORKS)
        for k, (number, near, far) in enumerate(zip(self.number, self.near, self.far, strict=True)):
            line, way = number + (far < near), np.minimum(near, far)
            rank = _uniform(np.arange(line.min(), line.max() + 1), k, self.salt + 15)[line - line.min()]
            major, track = rank < 0.4, (rank > 0.72) & ~town
            half = np.where(major, 17, np.where(track, 5, 12)) * (major | ~water)
            kerb = town & (way < half + 6) & (self.surface != 14)
            self.surface[kerb], self.gain[kerb] = 15, 1.06
            road = way < half
            self.surface[road] = np.where(track, 13, 14)[road]
            self.gain[road] = (1 + 0.07 * _wave(way / 8.5))[road]
            dash = (way < 1.3) & (self.axes[1 - k] / 44 % 1 < 0.4)
            self.surface[major & (dash | (np.abs(way - 15) < 0.7))] = 16


def _roofs(near: list[Plane], far: list[Plane], lot: Plane, key: Plane) -> tuple[Plane, Plane]:
    """Surface (0: none) and brightness of roofs and drives, at given distances to a block's ends."""
    counts = [np.maximum(np.floor((n + f) / lot), 1) for n, f in zip(near, far, strict=True)]
    spots = [n / (n + f) * count for n, f, count in zip(near, far, counts, strict=True)]
    i, j = (np.floor(spot).astype(np.int64) for spot in spots)
    drawn = grid_hash(3, i + key.astype(np.int64), j)
    f = [(drawn >> np.uint64(16 * k) & np.uint64(1023)).astype(np.float32) / 1024 for k in range(4)]
    # -1 to 1 across the roof: distance from its middle over half its size; both are random for each lot
    p, q = ((spot % 1 - 0.44 - 0.14 * f[2]) / (0.26 + 0.12 * f[k]) for k, spot in enumerate(spots))
    reach = np.maximum(np.abs(p), np.abs(q))
    inside = (i >= 0) & (i < counts[0]) & (j >= 0) & (j < counts[1])
    surface = np.where(spots[0] % 1 < 0.07, 15, 0) * inside
    built = inside & (reach < 1) & (f[1] < 0.95)
    surface = np.where(built, _ROOFS[(f[3] * 8).astype(np.int64)], surface)
    slope = np.where(f[0] > f[1], q, p)  # across the ridge, which runs along the longer side
    ridge = np.abs(slope) < 0.05
    tiled = np.where(ridge, 1.22, np.where(slope < 0, 1.1, 0.84) + 0.05 * _wave(slope * 8))
    flat = np.where(ridge | (reach > 0.93), 0.86, 1)
    return surface, np.where(surface >= 20, flat, np.where(surface >= 17, tiled, 1)).astype(np.float32)


def _plant(ground: _Ground) -> None:
    """Add trees and their shadows, at most one per square of a grid; the surface decides how many."""
    s, t = (v / (_TREE * ground.unit) - 0.5 for v in (ground.y, ground.x))
    i, j = np.floor(s).astype(np.int64), np.floor(t).astype(np.int64)
    rows, cols = np.arange(i[0], i[-1] + 2), np.arange(j[0], j[-1] + 2)
    soil = _Ground(ground.scene, *((n + 0.5) * (_TREE * ground.unit) for n in (rows, cols))).surface
    draw = [_uniform(rows[:, None], cols, ground.salt + k) for k in range(20, 24)]
    radius = np.where(draw[0] < _TREES[soil], 0.3 + 0.21 * draw[1], 0).astype(np.float32)
    best, light = np.zeros((2, *ground.gain.shape), np.float32)
    shade, kind = np.zeros(best.shape, bool), np.zeros(best.shape, np.int64)
    for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pick = np.ix_(i - i[0] + di, j - j[0] + dj)
        r = radius[pick]
        dy = (s - i - di).astype(np.float32)[:, None] - 0.54 * (draw[2][pick] - 0.5)
        dx = (t - j - dj).astype(np.float32) - 0.54 * (draw[3][pick] - 0.5)
        dome = r * r - dx * dx - dy * dy
        shade |= (dx - 0.3 * r) ** 2 + (dy - 0.3 * r) ** 2 < r * r
        over = (dome > best) & (ground.surface < 17)
        best[over], light[over] = dome[over], (0.96 - 0.62 * (dx + dy) + dome)[over]
        kind[over] = np.where(draw[1] * 7 % 1 < 0.35, 4, 3)[pick][over]
    ground.gain[shade & (ground.surface < 17)] *= 0.62
    ground.surface[kind > 0], ground.gain[kind > 0] = kind[kind > 0], light[kind > 0]


def _photo(ground: _Ground) -> tuple[U8, U8]:
    """Plant trees on the ground; returns its pixels and truth as `Scene.window` does."""
    _plant(ground)
    surface, y, x = ground.surface, ground.y, ground.x
    bits = grid_hash(ground.salt + 30, y[:, None], x)
    fine = [(bits >> np.uint64(8 * k) & np.uint64(255)).astype(np.float32) / 128 - 1 for k in range(4)]
    grain = fine[3] + 0.4 * ground.noise(21, 32) + _noise(y, x, 2.7, ground.salt + 33)
    gain = ground.gain * (1 + 0.05 * ground.noise(170, 31) + _GRAIN[surface] * grain)
    haze = (5 * ground.u - 6 * ground.v).astype(np.float32) + 2 * ground.noise(900, 34)
    rgb = np.empty((3, *surface.shape), np.uint8)
    for k, sky in enumerate((2, 6, 16)):  # shaded surfaces are lit by the blue sky
        rgb[k] = np.clip(_SURFACES[:, 1 + k][surface] * gain + sky * (1 - gain) + haze + 2 * fine[k], 1, 255)
    u = ground.u + 0.004 * _noise(y, np.zeros(1), 45 * ground.unit, ground.salt + 35)
    v = ground.v + 0.004 * _noise(np.zeros(1), x, 45 * ground.unit, ground.salt + 36)
    seen = (u > 0.012 + 0.03 * v) & (u < 0.97 + 0.025 * v) & (v > 0.04 - 0.03 * u) & (v < 0.99 - 0.03 * u)
    return rgb * seen, np.where(seen, _CLASS[surface], NODATA).astype(np.uint8)


def write_scene(scene: Scene, image: Path, truth: Path) -> None:
    """Write a scene and its truth as GeoTIFFs on one grid, strip by strip; each file appears whole."""
    import rasterio
    from rasterio.windows import Window as FileWindow

    grid = {"width": scene.width, "height": scene.height, "crs": "EPSG:32633"}
    grid["transform"] = rasterio.Affine(0.2, 0, 412000, 0, -0.2, 5655000)
    storage = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "predictor": 2, "zlevel": 1}
    storage |= {"tiled": True, "blockxsize": CELL_PX, "blockysize": CELL_PX}
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        whole_file(image) as first,  # only for their names: GDAL creates the files again
        whole_file(truth) as second,
        rasterio.open(first.name, "w", count=3, nodata=0, photometric="RGB", **grid, **storage) as pixels,
        rasterio.open(second.name, "w", count=1, nodata=NODATA, **grid, **storage) as classes,
    ):
        strips = [(row, min(CELL_PX, scene.height - row)) for row in range(0, scene.height, CELL_PX)]
        count = os.cpu_count() or 1
        for first_strip in range(0, len(strips), count):  # no more of them are in memory
            some = strips[first_strip : first_strip + count]
            made = threads.map(lambda strip: scene.window(strip[0], 0, strip[1], scene.width), some)
            for (row, height), (rgb, true) in zip(some, made, strict=True):
                window = FileWindow(0, row, scene.width, height)
                pixels.write(rgb, window=window)
                classes.write(true, 1, window=window)

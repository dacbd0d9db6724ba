"""Other programs that do the same: what Debian and PyPI have of them, installed by `make peers-setup`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.data import WORK
from benchmarks.races.contenders import SEGMENTS, THREADS, Contender, module

WHEELS = WORK / "peers"
"""Where `make peers-setup` puts Python packages that are no part of the lock."""

_SETUP = "is not installed; `make peers-setup` does it"
_GRASS = f"""
set -e
r.external -o --quiet input="$1" output=photo
g.region raster=photo.1
i.group --quiet group=photo subgroup=photo input=photo.1,photo.2,photo.3
i.cluster --quiet group=photo subgroup=photo signaturefile=signatures classes={SEGMENTS}
i.maxlik --quiet group=photo subgroup=photo signaturefile=signatures output=labels
r.out.gdal --quiet -c -f input=labels output="$2" format=COG type=Byte nodata=255
"""
_OTB = f"""
set -e
otbcli_SOMClassification -in "$1" -out "$2.tiff" uint8 -sx 4 -sy 2 -nx 2 -ny 2 -ts 10000 -ram 1024
gdal_translate -q -of COG -co COMPRESS=DEFLATE -co NUM_THREADS={THREADS} "$2.tiff" "$2"
rm "$2.tiff"
"""


def by_hand() -> Contender:
    """rioxarray, Dask and scikit-learn by hand: all of them are ours too."""
    about = (
        "rioxarray, Dask and scikit-learn by hand (`benchmarks/races/by_hand.py`), through a GeoTIFF, "
        f"K = {SEGMENTS}, R = 1"
    )
    return Contender("rioxarray-by-hand", about, lambda s, o: _by_hand("rioxarray", s, o))


def peers() -> list[Contender]:
    """All that is not ours; what is not installed says so."""
    return [_odc_geo(), _grass(), _otb()]


def _by_hand(writer: str, source: Path, out: Path) -> list[str]:
    return module("benchmarks.races.by_hand", writer, source, out / "hand.tif")


def _odc_geo() -> Contender:
    about = f"the same with odc-geo's `save_cog_with_dask`, K = {SEGMENTS}, R = 1"

    def command(source: Path, out: Path) -> list[str]:
        # they lie behind our own packages on the path, so that they replace none of them
        code = f"import sys; sys.path.append({str(WHEELS)!r}); from benchmarks.by_hand import main; main()"
        return [sys.executable, "-c", code, "odc-geo", str(source), str(out / "hand.tif")]

    absent = "" if (WHEELS / "odc").is_dir() else _SETUP
    return Contender("odc-geo-by-hand", about, command, peer=True, absent=absent)


def _grass() -> Contender:
    program = shutil.which("grass")
    about = f"GRASS: `r.external`, `i.cluster`, `i.maxlik`, `r.out.gdal` to a COG, {SEGMENTS} classes"

    def command(source: Path, out: Path) -> list[str]:
        # GRASS keeps settings in HOME, and wants none of ours
        line = [str(program), "--tmp-location", str(source), "--exec"]
        return ["env", f"HOME={out}", *line, "sh", "-c", _GRASS, "sh", str(source), str(out / "grass.tif")]

    return Contender("grass", about, command, peer=True, absent="" if program else _SETUP)


def _otb() -> Contender:
    about = (
        "Orfeo ToolBox: `SOMClassification` of 4 x 2 neurons, trained on 10,000 pixels (Debian's package has "
        "no `KMeansClassification`), then `gdal_translate` to a COG"
    )

    def command(source: Path, out: Path) -> list[str]:
        return ["sh", "-c", _OTB, "sh", str(source), str(out / "otb.tif")]

    there = shutil.which("otbcli_SOMClassification") and shutil.which("gdal_translate")
    return Contender("otb-som", about, command, peer=True, absent="" if there else _SETUP)

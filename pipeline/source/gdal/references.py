"""What a raster refers to, looked at before GDAL follows it.

GDAL opens whatever a VRT names: any file as raw pixels, addresses on a network, code. Here a reference
has to be another raster on this machine, which is looked at in the same way. Only what a user names may
lie on a network, and what a VRT there refers to has to lie in its own folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rasterio.enums import Interleaving

from pipeline.errors import RasterError
from pipeline.source.fingerprint import combined, fingerprint
from pipeline.source.gdal import handles, remote, similar
from pipeline.source.gdal.dataset import files_of, reading_of
from pipeline.source.gdal.reference_xml import Description, NotUnderstoodError, described
from pipeline.source.gdal.similar import Similar
from pipeline.source.limits import item_bytes, refuse_block

_HEAD_BYTES = 64 << 10
_TEXT_BYTES = 256 << 20
_DEPTH = 8
_DESCRIBED = (b"<vrtdataset", b"<mrf_meta")
_INLINE = re.compile(r"\s*<|.*<(VRTDataset|MRF_META|GDAL_WMS|WMTS|OGRVRT)", re.IGNORECASE | re.DOTALL)
_VIRTUAL = re.compile(r"/vsi(zip|tar|gzip|7z|rar|cached|sparse|crypt)/\{?|/vsisubfile/\d+(_-?\d+)?,")
_REQUEST_NAME = re.compile(
    r"(AGS|DAAS|DERIVED_SUBDATASET|EEDAI?|GTI|IIP|NGW|OGCAPI|PLMOSAIC|PLSCENES|STACIT|STACTA|WCS|WMS|WMTS):"
    r"|.*[?&]SERVICE=W(CS|FS|MS|MTS)\b",
    re.IGNORECASE | re.DOTALL,
)
_REQUEST = re.compile(
    rb"<(gdal_wmt?s|wcs_gdal|wms_tile_service|wms_capabilities|wmt_ms_capabilities|wmtms|tilemap|tiledgroup"
    rb"|services|gdaltileindexdataset)\b"
    rb"|opengis\.net/wmts|\"stac_(version|extensions)\"|\"tileinfo\"|gdal_streamed_alg",
    re.IGNORECASE,
)
_FROM_STDIN = re.compile(r"/vsistdin", re.IGNORECASE)

# products of several files, of which a metadata file in one folder names rasters in others
_SCATTERED = frozenset(
    {"VRT", "AIG", "SAFE", "SENTINEL2", "DIMAP", "RS2", "TSX", "TIL", "RPFTOC", "ECRGTOC", "NITF"}
)


def refuse_strange(path: str) -> str:
    """Refuse a path that is no name of a raster, or a local file that refers to what it should not.

    Parameters
    ----------
    path
        What a user named, before GDAL opens it.

    Returns
    -------
    str
        Tells what it says, and all that it refers to, from another state of them; "" where it refers to
        nothing.

    Raises
    ------
    RasterError
        If it is XML, a device or a pipe, or refers to what is missing, on a network, or not a raster.
    """
    if not os.path.lexists(path) and _INLINE.match(path):
        raise RasterError(path, "is XML and not the name of a file; write it to a file")
    walk = _Walk(path)
    for file in _local_files(path):
        walk.visit(file, ())
    return combined(walk.marks) if walk.marks else ""


def named_file(path: str) -> str:
    """The local file that a path speaks of: itself, or the one that holds what is named; else the path."""
    return next(_local_files(path), None) or _archive(path) or path


def refuse_references(path: str, dataset: Any) -> None:
    """Refuse an open dataset that refers to what it should not, where `refuse_strange` could not tell.

    Raises
    ------
    RasterError
        If it does.
    """
    if _is_file(path):
        _refuse_files(path, dataset.driver, dataset.files)
    elif dataset.driver == "VRT":
        # GDAL's own reading of what lies in an archive or on a network
        text = dataset.tags(ns="xml:VRT").get("xml:VRT", "")
        _Walk(path).follow(path, _parsed(path, path, [text.encode()]), ())


class _Walk:
    """Looks at a raster and all that it refers to, each file once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: set[str] = set()
        self.marks: list[str] = []

    def visit(self, file: str, above: tuple[str, ...]) -> None:
        """Look at a local file; `above` are those that lead to it."""
        real = os.path.realpath(file)
        if real in above:
            self._refuse(f"refers to itself ({file})")
        if real in self._seen:
            return
        if len(above) > _DEPTH:
            self._refuse(f"refers to {file} over more than {_DEPTH} files")
        self._seen.add(real)
        place = Path(real)
        if not (place.is_file() or place.is_dir()) and place.exists():
            self._refuse(f"{file} is a device or a pipe")
        if (text := _description(self._path, file)) is not None:
            self.marks.append(text.digest)
            self.follow(file, text, (*above, real))
        elif above or self._path.lower().startswith("vrt:"):
            self._plain(file)

    def follow(self, file: str, text: Description, above: tuple[str, ...]) -> None:
        """Look at what a file's description names."""
        for name, relative in text.references:
            self._reference(file, name, relative=relative, above=above)

    def _reference(self, file: str, name: str, *, relative: bool, above: tuple[str, ...]) -> None:
        if not os.path.lexists(name) and _INLINE.match(name):
            self._refuse("has XML where the name of a source should be")
        if _FROM_STDIN.search(name):
            self._refuse(f"its source {name} is a stream")
        if remote.is_remote(file):
            self._far(file, name, relative=relative, above=above)
            return
        # GDAL looks beside what a link points at
        folder = Path(os.path.realpath(file)).parent if Path(file).is_symlink() else Path(file).parent
        if remote.is_remote(name):
            self._refuse(
                f"its source {name} lies on a network, and nobody named it; "
                "name it as a SOURCE of its own, or fetch it first",
            )
        if _REQUEST_NAME.match(name) and not os.path.lexists(folder / name):
            self._refuse(f"its source {name} is a request to a service; convert what it gives to GeoTIFF")
        if name.startswith("/vsi") or (":" in name and not os.path.lexists(folder / name)):
            self._elsewhere(name, folder, above)
            return
        where = str(folder / name) if relative else name
        if not os.path.lexists(where):
            self._refuse(f"cannot read its source {name}: no such file; put it there again")
        self.visit(where, above)

    def _far(self, file: str, name: str, *, relative: bool, above: tuple[str, ...]) -> None:
        """A source of a VRT on a network: it has to lie in the VRT's folder or below."""
        folder = file.removeprefix("vrt://").partition("?")[0].rpartition("/")[0]
        where = remote.gdal_path(f"{folder}/{name}" if relative else name)
        if not where.startswith(f"{remote.gdal_path(folder)}/") or ".." in where.split("/"):
            self._refuse(f"its source {name} does not lie in its own folder; name it as a SOURCE of its own")
        self._opened(where, above)

    def _elsewhere(self, name: str, folder: Path, above: tuple[str, ...]) -> None:
        """A part of a container, or a member of an archive."""
        for local in _local_files(name, folder):
            self.visit(local, above)
        if name.startswith("/vsi"):
            if (archive := _archive(name)) and archive not in self._seen:
                self._seen.add(archive)
                self.marks.append(fingerprint(archive))
            self._opened(name, above)

    def _opened(self, name: str, above: tuple[str, ...]) -> None:
        """What GDAL has to open before it can be looked at."""
        if name in self._seen:
            return
        if len(above) > _DEPTH:
            self._refuse(f"refers to {name} over more than {_DEPTH} files")
        self._seen.add(name)
        text = handles.opened(
            name, lambda d: d.tags(ns="xml:VRT").get("xml:VRT", "") if d.driver == "VRT" else ""
        )
        if text:
            self.follow(name, _parsed(self._path, name, [text.encode()]), (*above, name))

    def _plain(self, file: str) -> None:
        """A source that is a raster itself: its blocks, and the files that belong to it."""
        if _is_request(self._path, file):
            self._refuse(f"its source {file} is a request to a service; convert what it gives to GeoTIFF")
        header = similar.header(file)
        if (known := _plain.get(header)) is not None:
            self.marks.append(combined((fingerprint(file), known[1].digest)))
            return

        def mark(dataset: Any) -> str:
            files, reading = _plain_files(file, dataset), reading_of(dataset)
            if files == (file,):
                _plain.keep(header, None, reading)
            return combined((*map(fingerprint, files), reading.digest))

        try:
            self.marks.append(handles.opened(file, mark))
        except RasterError as error:
            raise RasterError(self._path, f"cannot use its source {error}") from error

    def _refuse(self, what: str) -> None:
        raise RasterError(self._path, what)


_plain: Similar[None] = Similar()


def _plain_files(file: str, dataset: Any) -> tuple[str, ...]:
    """The files of a source, which is refused if it refers to others."""
    _refuse_files(file, dataset.driver, dataset.files)
    if dataset.count:
        refuse_block(file, dataset.block_shapes[0], block_pixel_bytes(dataset))
    return files_of(file, dataset)


def block_pixel_bytes(dataset: Any) -> int:
    """Bytes that a pixel takes in a block of an open dataset: those of all bands that lie together."""
    together = dataset.dtypes if dataset.interleaving == Interleaving.pixel else dataset.dtypes[:1]
    return sum(map(item_bytes, together))


def _refuse_files(path: str, driver: str, files: Sequence[str]) -> None:
    """Refuse a header whose pixels lie in a file of another folder, and sidecars that refer to others."""
    if driver == "VRT" and _description(path, path) is None:
        raise RasterError(path, "GDAL takes it for a VRT, which it does not look like; write it again")
    folder = Path(os.path.abspath(path)).parent
    for file in files:
        if file == path:
            continue
        if driver not in _SCATTERED and folder not in Path(os.path.abspath(file)).parents:
            raise RasterError(path, f"its header names {file}, which does not lie beside it; move it there")
        if driver != "VRT" and _description(path, file) is not None:
            raise RasterError(path, f"its part {file} is a VRT; name that as the SOURCE")


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _local_files(name: str, folder: Path = Path()) -> Iterator[str]:
    """The local files that a name of GDAL's may speak of: all of it, or what follows a colon."""
    if os.path.lexists(name):
        yield name
        return
    rest = name.partition("?")[0] if name.lower().startswith("vrt:") else name
    pieces = re.split(r"[:,]", rest)
    for start in range(len(pieces)):
        for end in range(len(pieces), start, -1):
            file = ":".join(pieces[start:end]).strip('"')
            file = file.removeprefix("//") if start else file
            yield from (str(found) for found in (Path(file), folder / file) if _is_file(found))


def _archive(name: str) -> str | None:
    """The local file that holds what a name of GDAL's file systems names (/vsizip/a.zip/b.tif)."""
    while (match := _VIRTUAL.match(name)) is not None:
        name = name[match.end() :]
    if not name.startswith("/vsi"):
        for place in (Path(name), *Path(name).parents):
            if _is_file(place):
                return str(place)
    return None


def _description(path: str, file: str) -> Description | None:
    """What a file that GDAL takes for a VRT or an MRF says; None for any other."""
    if not _is_file(file):
        return None
    try:
        with Path(file).open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
            # GDAL looks for these words in the text that a file begins with, whatever stands before them
            if not any(word in head.partition(b"\0")[0].lower() for word in _DESCRIBED):
                return None
            if os.fstat(opened.fileno()).st_size > _TEXT_BYTES:
                raise RasterError(path, f"{file} is a VRT of more than {_TEXT_BYTES >> 20} MiB; split it")
            return _parsed(path, file, iter([head, *iter(lambda: opened.read(1 << 20), b"")]))
    except OSError as error:
        raise RasterError(path, f"cannot read {file} ({error.strerror})") from None


def _is_request(path: str, file: str) -> bool:
    """Whether a local file is a request to a service, or names what else GDAL is to open.

    As GDAL does, the text that it begins with is searched, up to the first NUL.
    """
    if not _is_file(file):
        return False
    try:
        with Path(file).open("rb") as opened:
            return _REQUEST.search(opened.read(_HEAD_BYTES).partition(b"\0")[0]) is not None
    except OSError as error:
        raise RasterError(path, f"cannot read {file} ({error.strerror})") from None


def _parsed(path: str, file: str, text: Iterable[bytes]) -> Description:
    try:
        return described(text)
    except NotUnderstoodError as error:
        own = "" if file == path else f"its source {file} "
        raise RasterError(path, f"{own}{error}") from None

"""Changes to bytes: what damage and malice have in common."""

from __future__ import annotations

import copy
import json
import struct

NUMBERS = (0, 1, 2, 7, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (b"NaN", b"inf", b"-1", b"1e308", b"99999999999999999999", b"%s%n", b"../../../x", b"\0", b"\n", b"<")

_DEEP = "nested deep"
STRANGE = (
    None, True, -1, 0, 2**62, 2**63, -(2**63), 10**400, 1.5, 1e308, float("nan"), float("inf"), [], {},
    [[]], [None], {"": 0}, "", ".", "..", "../../../good", "/etc/passwd", "good.tif", "x" * 9999, "x" * 255,
    "\n", "\0", "\ud800", "\x1b[2J", "5", "NaN", "0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", _DEEP,
)  # fmt: skip


def oddly(value, rng):
    """A tree of JSON values as text, with something strange in place of one of them."""
    part = value
    while True:
        key = rng.choice(list(part) if isinstance(part, dict) else list(range(len(part))))
        if isinstance(part[key], (dict, list)) and part[key] and rng.random() < 0.75:
            part = part[key]
            continue
        part[key] = copy.deepcopy(rng.choice(STRANGE))
        return json.dumps(value).replace(f'"{_DEEP}"', "[" * 100_000 + "]" * 100_000).encode()


def damaged(data, rng, head):
    """Bytes with a few of them changed, most often near the beginning."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8, 32))):
        at = rng.randrange(min(head, len(data)) if rng.random() < 0.7 else len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            wide = struct.pack(rng.choice(("<I", ">I", "<H", "<Q")), rng.choice(NUMBERS) & 0xFFFF)
            data[at : at + len(wide)] = wide
        elif kind == 3:
            data[at : at + 4] = struct.pack(rng.choice(("<I", ">I")), rng.choice(NUMBERS) & 0xFFFFFFFF)
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
        elif kind == 5 and rng.random() < 0.5:
            count = rng.randrange(1, 64)
            data[at:at] = data[max(0, at - count) : at]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def reworded(text, rng):
    """Text with some of its numbers and words replaced."""
    data = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 4))):
        digits = [i for i, b in enumerate(data) if chr(b).isdigit()] or [0]
        at = rng.choice(digits)
        end = at + 1
        while end < len(data) and chr(data[end]).isdigit():
            end += 1
        word = rng.choice((*WORDS, *(str(n).encode() for n in NUMBERS)))
        data[at:end] = word
    return bytes(data) if rng.random() < 0.8 else damaged(bytes(data), rng, len(data))


def retagged(data, rng):
    """A TIFF with some entries of its first directory replaced."""
    data = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    if big:
        (start,) = struct.unpack_from(f"{order}Q", data, 8)
        (count,) = struct.unpack_from(f"{order}Q", data, start)
        first, size, number, place = start + 8, 20, "Q", 12
    else:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        first, size, number, place = start + 2, 12, "I", 8
    top = 0xFFFFFFFFFFFFFFFF if big else 0xFFFFFFFF
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        entry = first + size * rng.randrange(count)
        kind = rng.randrange(6)
        if kind <= 2:
            value = rng.choice((*NUMBERS, start, len(data), len(data) - 1, 2**63 - 1, rng.randrange(1 << 16)))
            struct.pack_into(f"{order}{number}", data, entry + place, value & top)
        elif kind == 3:
            struct.pack_into(f"{order}H", data, entry + 2, rng.randrange(20))
        elif kind == 4:
            struct.pack_into(f"{order}{number}", data, entry + 4, rng.choice((*NUMBERS, 2**60)) & top)
        else:
            tags = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338)
            geo = (339, 347, 33550, 33922, 34264, 34735, 42112, 42113, 50674, 65000)
            struct.pack_into(f"{order}H", data, entry, rng.choice((*tags, *geo)))
    return bytes(data)

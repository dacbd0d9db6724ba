"""Text files as people's programs write them: UTF-8, with a byte order mark or without, and UTF-16."""

from __future__ import annotations

import codecs

_HEAD_BYTES = 4096
_MARKS = (
    # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def decoded(data: bytes) -> str:
    """The text of a file, as Notepad, Excel, PowerShell's ``>`` and all others write it.

    Raises
    ------
    UnicodeDecodeError
        If it is none.
    """
    marked = (name for mark, name in _MARKS if data.startswith(mark))
    encoding = next(marked, "") or _without_mark(data)
    text = data.decode(encoding)
    if not encoding.startswith("utf-8") and ("\0" in text or not any(c < "\x7f" for c in text)):
        # any bytes are some characters of UTF-16, but no list or table is without a dot or a line's end
        raise UnicodeDecodeError(encoding, data, 0, len(data), "no text")
    return text


def _without_mark(data: bytes) -> str:
    """UTF-16 where there are zeros, as no text in UTF-8 has them: most are beside letters."""
    even, odd = (data[:_HEAD_BYTES][start::2].count(0) for start in (0, 1))
    return "utf-8" if even == odd == 0 else "utf-16-le" if odd > even else "utf-16-be"

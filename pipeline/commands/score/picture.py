"""The confusion matrix of a score as a picture."""

from __future__ import annotations

import io

import numpy as np

from pipeline.commands.score.figures import Scores, as_drawn
from pipeline.errors import printable

_CELL, _NARROW_CELL = 44, 10
_MOST_WITH_TEXT = 24
_MOST_LETTERS = 24
_GAP = 8
_DARK = np.array([18, 72, 128])


def draw(scores: Scores) -> bytes:
    """A PNG: a row for each class, a column for each label, shaded by shares of the pixels of the class."""
    from PIL import Image, ImageDraw, ImageFont

    order = as_drawn(scores.label_of, len(scores.mapped))
    shares = scores.confusion[:, order] / np.maximum(1, scores.confusion.sum(axis=1, keepdims=True))
    with_text = max(shares.shape) <= _MOST_WITH_TEXT
    cell = _CELL if with_text else _NARROW_CELL
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    names = [printable(name)[:_MOST_LETTERS] for name in scores.names] if with_text else []
    left = round(max([font.getlength(name) for name in names], default=0)) + 2 * _GAP
    top = 96 if with_text else 64
    found = scores.as_json()
    title = (
        f"accuracy {found['accuracy']:.3f}   mean IoU {found['mean_iou']:.3f}   ARI {found['ari']:.3f}   "
        f"many-to-one {found['many_to_one_accuracy']:.3f}"
    )
    caption = "rows: classes of the reference; columns: labels; per cent of the pixels of a class"
    width = max(
        left + cell * shares.shape[1] + _GAP,
        *(round(font.getlength(text)) + 2 * _GAP for text in (title, caption)),
    )
    image = Image.new("RGB", (width, top + cell * shares.shape[0] + _GAP), "white")
    pen = ImageDraw.Draw(image)
    pen.text((_GAP, _GAP), title, "black", font)
    pen.text((_GAP, _GAP + 20), caption, "black", small)
    for column, label in enumerate(order):
        x = left + column * cell
        pen.rectangle((x, top - 8, x + cell - 2, top - 4), scores.style.colours[label])
        if with_text:
            pen.text((x + cell / 2, top - 20), str(label), "black", font, anchor="mm")
    for row, values in enumerate(shares):
        y = top + row * cell
        if with_text:
            pen.text((left - _GAP, y + cell / 2), names[row], "black", font, anchor="rm")
        for column, share in enumerate(values):
            x = left + column * cell
            shade = np.rint(255 + share * (_DARK - 255)).astype(int)
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), tuple(map(int, shade)))
            if with_text and share >= 0.005:
                ink = "white" if share > 0.5 else "black"
                pen.text((x + cell / 2, y + cell / 2), f"{100 * share:.0f}", ink, font, anchor="mm")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

"""Seconds of each kind of work of tasks, summed over the threads and workers that did it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of reading, labelling, encoding and writing."""

    read_s: float = 0.0
    label_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def __add__(self, other: Self) -> Self:
        """The seconds of both."""
        return type(self)(
            self.read_s + other.read_s,
            self.label_s + other.label_s,
            self.encode_s + other.encode_s,
            self.write_s + other.write_s,
        )

    def rounded(self, digits: int) -> dict[str, float]:
        """Each by its name."""
        return {name: round(seconds, digits) for name, seconds in asdict(self).items()}

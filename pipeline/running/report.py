"""How a run ended: what became of its rasters, and how fast that was."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """How a run ended.

    Parameters
    ----------
    done, failed, skipped
        Names of the rasters; failed ones with their error.
    pixels
        Pixels labelled.
    seconds
        Whole time.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    pixels: int = 0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if all is done, 1 if some rasters failed."""
        return 1 if self.failed else 0

    @property
    def counts(self) -> dict[str, int]:
        """How many rasters ended in each way."""
        return {"done": len(self.done), "failed": len(self.failed), "skipped": len(self.skipped)}

    @property
    def mpx_per_s(self) -> float:
        """Million pixels labelled a second, of the whole time."""
        return round(self.pixels / 1e6 / max(1e-6, self.seconds), 2)

"""The `demo` command: segments the built-in scene and compares the labels with the known truth."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.commands.demo import scene
from pipeline.commands.demo.score import draw_comparison, score_labels
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.events import progress
from pipeline.events.kinds import Working
from pipeline.process import startup
from pipeline.running.run import run


def demo(config: RunConfig, out: Path) -> str:
    """Make the scene in OUT and segment it; returns lines that say how well labels and truth agree.

    Raises
    ------
    UsageError
        If OUT cannot be written.
    """
    start = time.monotonic() - startup.age_s()
    image, truth, labels = out / "input" / "scene.tif", out / "input" / "truth.tif", out / "labels"
    segments = len(scene.CLASS_NAMES)
    settings = {"sources": (str(image),), "out": str(labels), "segments": segments, "overwrite": True}
    result, picture = labels / "scene.tif", out / "demo.png"
    display = progress.chosen(config.progress)
    try:
        display.event(Working("making the scene"))
        try:
            image.parent.mkdir(parents=True, exist_ok=True)
            scene.write_scene(scene.Scene(), image, truth)
        except OSError as error:
            raise UsageError(f"{out}: cannot write there ({error.strerror}); choose another OUT") from None
        run(config.model_copy(update=settings), display)
        display.event(Working("comparing the labels with the truth"))
        score = score_labels(result, truth)
        draw_comparison(image, result, truth, picture)
    finally:
        display.close()
    seconds = time.monotonic() - start
    return (
        f"accuracy {score.accuracy:.2f}, mean IoU {score.mean_iou:.2f} against the known truth "
        f"({segments} segments, {score.rule})\n"
        f"time     {seconds:.1f} s for {scene.Scene().width} x {scene.Scene().height} px\n"
        f"labels   {result} (open it in QGIS: style and class names come along)\n"
        f"picture  {picture}"
    )

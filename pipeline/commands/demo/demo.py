"""The demo: the built-in scene, segmented end to end and compared with its known truth."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.commands.demo import scene
from pipeline.commands.demo import score as truth
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.events import progress
from pipeline.running.run import run


def demo(config: RunConfig, out: Path) -> str:
    """Make the scene in OUT, run on it, and say how well the labels match; gives lines for people.

    Raises
    ------
    UsageError
        If OUT cannot be written.
    """
    image, known, labels = out / "input" / "scene.tif", out / "input" / "truth.tif", out / "labels"
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
        scene.write_scene(scene.Scene(), image, known)
    except OSError as error:
        raise UsageError(f"{out}: cannot write there ({error.strerror}); choose another OUT") from None
    start = time.perf_counter()
    segments = len(scene.CLASS_NAMES)
    settings = {"sources": (str(image),), "out": str(labels), "segments": segments, "overwrite": True}
    display = progress.chosen(config.progress)
    try:
        run(config.model_copy(update=settings), display)
    finally:
        display.close()
    seconds = time.perf_counter() - start
    result = labels / "scene.tif"
    score = truth.score(result, known)
    picture = out / "demo.png"
    truth.picture(image, result, known, picture)
    return (
        f"accuracy {score.accuracy:.2f}, mean IoU {score.mean_iou:.2f} against the known truth "
        f"({segments} segments, {score.rule})\n"
        f"time     {seconds:.1f} s for {scene.Scene().width} x {scene.Scene().height} px\n"
        f"labels   {result} (open it in QGIS: style and class names come along)\n"
        f"picture  {picture}"
    )

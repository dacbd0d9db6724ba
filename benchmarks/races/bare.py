"""Bare networks: what a network takes by itself, on images in memory.

`python -m benchmarks.races.bare loaded MODEL` is the network as it was first loaded: TorchScript, float32,
images of 512 x 512, all threads on one image. `ours` is the form that a run gives it: images of a block of
cells with its halo, a thread for each, several at a time, in one process or in several. All pixels that it is
shown count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clock
from benchmarks.clock import Work

_SIDE_PX = 512


def loaded(model: str, seconds: float, threads: int) -> Work:
    """Of a TorchScript file, as torch loads it."""
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated; it still loads
        module = torch.jit.load(model).eval()
    image = torch.rand(1, 3, _SIDE_PX, _SIDE_PX)
    with torch.inference_mode():
        return clock.repeated(lambda: module(image), _SIDE_PX**2, seconds)


def ours(model: str, seconds: float, processes: int, threads: int) -> Work:
    """In the form of a run, on threads of some processes that all begin at once."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    start = context.Barrier(processes)
    with context.Pool(processes, _share, (start,)) as pool:
        calls = [(model, seconds, threads)] * processes
        # each process takes one: it waits there for the others
        rate = sum(pool.starmap(_rate, calls, chunksize=1))
    return Work(1e6 / rate, 1e6)


def _share(start: Any) -> None:
    global _START  # noqa: PLW0603  (a barrier reaches a process of a pool in no other way)
    _START = start


def kernel_of(model: str) -> Any:
    """The kernel of a network in the form that a run gives it, if that is certified there."""
    from pipeline.kernels import faster_form, kernel_from_options

    first = kernel_from_options("cnn", 4, model=model, device="cpu")
    return faster_form(first) or first


def _rate(model: str, seconds: float, threads: int) -> float:
    """Pixels a second of one process."""
    from engine.networks.cache import network

    kernel = kernel_of(model)
    run = network(kernel.model, kernel.digest, kernel.device)
    side = kernel.window_px + 2 * kernel.halo_px
    image = np.random.default_rng(0).random((kernel.bands, side, side), np.float32)
    _features(run, image, kernel.form)
    _START.wait()
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda _: _rate_of_thread(run, image, kernel.form, seconds), range(threads)))


def _features(run: Any, image: Any, form: str) -> None:
    """Evaluate an image as a run does: in our own form some rows at a time, of which none are kept."""
    from engine.networks.network import STRAIGHT

    if form == STRAIGHT:
        deque(run.straight.strips(lambda row, end: image[:, row:end], *image.shape[1:]), maxlen=0)
    else:
        run.features(image, form)


def _rate_of_thread(run: Any, image: Any, form: str, seconds: float) -> float:
    calls, start, taken = 0, time.perf_counter(), 0.0
    while taken < seconds:
        _features(run, image, form)
        calls += 1
        taken = time.perf_counter() - start
    return calls * image[0].size / taken


def main() -> None:
    """Parse the command line, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races.bare", description=__doc__)
    parser.add_argument("form", choices=["loaded", "ours"])
    parser.add_argument("model", help="TorchScript file, or the name of a built-in network")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    given = parser.parse_args()
    model = given.model if given.model.startswith("builtin:") else str(Path(given.model).absolute())
    if given.form == "loaded":
        work = loaded(model, given.seconds, given.threads)
    else:
        work = ours(model, given.seconds, given.processes, given.threads)
    clock.tell(work)


if __name__ == "__main__":
    main()

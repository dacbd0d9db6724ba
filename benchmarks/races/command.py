"""Whole commands in fresh processes: what they take of time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from benchmarks import clock

ROOT = Path(__file__).resolve().parents[2]

_SAMPLE_EVERY_S = 0.1


class CommandError(Exception):
    """A command that failed; the message is its last words."""


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Parameters
    ----------
    wall_s
        Seconds from its start to its end.
    cpu_s
        Seconds of all cores, of the process and its children.
    others_s
        Seconds of all cores that everything else took meanwhile: what disturbed the measurement.
    told
        What it reported of itself: see `clock`; "" of most commands.
    """

    wall_s: float
    cpu_s: float
    others_s: float
    told: str = ""

    @property
    def disturbance(self) -> float:
        """Share of the machine's cores that everything else took meanwhile."""
        return self.others_s / self.wall_s / (os.cpu_count() or 1)


def cost(command: Sequence[str]) -> Cost:
    """Run a command to its end, undisturbed.

    Raises
    ------
    CommandError
        If it fails.
    """
    start, busy = time.perf_counter(), _busy_s()
    with _running(command) as (process, said):
        _, status, used = os.wait4(process.pid, 0)
        wall, busy = time.perf_counter() - start, _busy_s() - busy
        process.returncode = os.waitstatus_to_exitcode(status)
        told = clock.found(_text(said))
    own = used.ru_utime + used.ru_stime
    return Cost(wall, own, max(0.0, busy - own), told)


def peak_bytes(command: Sequence[str]) -> int:
    """Peak of the memory of a command and its children, sampled every 0.1 s while it runs.

    That is their proportional set size (PSS): pages that processes share count once. Looking costs the
    command time, more of it the more memory it has, so this run's time is not to be used.

    Raises
    ------
    CommandError
        If it fails.
    """
    peak = 0
    with _running(command) as (process, _):
        while True:
            peak = max(peak, _tree_pss(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLE_EVERY_S)
                break
    return peak


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A command under way and what it says; what is left of it is ended with the block."""
    process = None
    with tempfile.TemporaryFile() as said:
        try:
            with _signals_held():
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            yield process, said
        finally:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode:
            last = _text(said).strip().splitlines()[-1:]
            raise CommandError(f"exit {process.returncode}: {last[0] if last else 'no word'}")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that would end a sitting come after the block: else what it starts might be left behind."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")


def _busy_s() -> float:
    """Seconds that the machine's cores have worked since it started."""
    times = psutil.cpu_times()._asdict()
    # a guest's time is part of the user's
    return float(sum(v for k, v in times.items() if k not in ("idle", "iowait", "guest", "guest_nice")))


def _tree_pss(pid: int) -> int:
    """Proportional set size of a process and all its children, in bytes."""
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0
    return sum(map(_pss, tree))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or this is not Linux
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

"""The command as a person starts it: a process in a group of its own, watched, and ended in several ways."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.survive.held import HEARD, LONG_S, RELEASE
from tests.waiting import HANG_S, waited_for

ROOT = Path(__file__).resolve().parents[2]
HINT = "interrupted; run the same command again to finish"
_TIMES = (".json", ".jsonl")


class Command:
    """`python -m pipeline run` in a process group of its own.

    Parameters
    ----------
    out
        Its OUT.
    log
        Folder for what it says.
    arguments
        Sources and further options.
    module
        What is run: `pipeline`, or what stands for it, with its own arguments.
    """

    def __init__(self, out, log, *arguments, module=("pipeline",)):
        self.out = out
        log.mkdir(exist_ok=True)
        self._said, self._errors = log / "stdout", log / "stderr"
        command = [sys.executable, "-m", *module, "run", *map(str, arguments), "-o", str(out)]
        with self._said.open("wb") as said, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "--progress", "json"],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, start_new_session=True,
            )  # fmt: skip

    @property
    def events(self):
        """What it has said so far, but for the times."""
        lines = self._said.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def errors(self):
        """What it has said on stderr."""
        return self._errors.read_text()

    @property
    def running(self):
        """True until its main process ends."""
        return self.process.poll() is None

    def listens(self):
        """Whether it has come so far as to handle signals, which Python's own start does not."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def reach(self, event):
        """Wait for an event."""
        waited_for(lambda: event in [e["event"] for e in self.events], lambda: self.running)

    def workers(self):
        """Processes of its workers."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [p.pid for p in found if "spawn_main" in " ".join(p.cmdline())]
        return []

    def wait(self):
        """Its exit code; what is left of its group is killed if it does not end."""
        try:
            return self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.signal_group(signal.SIGKILL)
            raise

    def signal(self, number):
        """Send a signal to the main process."""
        self.process.send_signal(number)

    def signal_group(self, number):
        """Send a signal to all of its processes, as a terminal and a dying machine do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def orphans(self):
        """What is left of the group after the main process has ended, and does not go."""
        with contextlib.suppress(AssertionError):
            waited_for(lambda: not self._left())
        return self._left()

    def _left(self):
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                ours = os.getpgid(process.pid) == self.process.pid
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline())[:200])
        return left


class HeldCommand(Command):
    """One whose tasks of labelling wait to be released: see `held`.

    Parameters
    ----------
    out, log, arguments
        As of any command.
    grace_s
        What its tasks get to finish once it is to end.
    """

    def __init__(self, out, log, *arguments, grace_s=LONG_S):
        log.mkdir(exist_ok=True)
        self._folder = log
        module = ("tests.survive.held", str(log), str(grace_s))
        super().__init__(out, log, *arguments, module=module)

    @property
    def begun(self):
        """How many tasks of labelling have begun."""
        return len(list(self._folder.glob("begun-*")))

    def hold(self, tasks):
        """Wait until so many tasks are held."""
        waited_for(lambda: self.begun >= tasks, lambda: self.running)

    def heard(self):
        """Wait until it has taken a signal."""
        waited_for((self._folder / HEARD).exists, lambda: self.running)

    def release(self):
        """Let its tasks go on."""
        (self._folder / RELEASE).touch()


def outputs(out):
    """Bytes of all that stands in OUT under its final name, but for records, which hold times."""
    files = (p for p in out.rglob("*") if p.is_file())
    names = {str(p.relative_to(out)): p for p in files}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not name.startswith(".partial") and not ("/" not in name and path.suffix in _TIMES)
    }


def whole_so_far(out, wanted):
    """Make sure that whatever has its final name is whole, wherever the run stands."""
    for name, data in outputs(out).items() if out.exists() else ():
        # a file that is being written stands under a hidden name
        if not Path(name).name.startswith("."):
            assert data == wanted[name], f"{name} is not whole"
    for path in out.glob("*.json"):
        json.loads(path.read_text())

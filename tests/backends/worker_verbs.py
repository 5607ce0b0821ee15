# ruff: noqa: T201 - what a job prints is what is tried
"""Jobs that end in every way a job can end."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from porting.errors import FormatError, MismatchError, UsageError


def echo(job, progress):
    for step in range(job.get("steps", 0)):
        progress({"step": step})
    print("said something")
    return {"heard": job["text"], "folder": str(Path.cwd()), "stdin": sys.stdin.read()}


def abort(job, progress):
    print("last words")
    os.abort()


def segfault(job, progress):
    ctypes.string_at(0)


def leave(job, progress):
    print("leaving")
    os._exit(job["code"])


def stop(job, progress):
    sys.exit(3)


def killed(job, progress):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(job, progress):
    raise ValueError("no such thing\nsecond line")


class OwnError(UsageError):
    pass


def refuse(job, progress):
    errors = {
        "usage": UsageError("one", "two"),
        "own": OwnError("of a class that only the child has"),
        "format": FormatError("a.npz", "x", "wanted 3, got 4"),
        "mismatch": MismatchError("they differ", ["a  missing", "b  unexpected"]),
    }
    raise errors[job["which"]]


def hang(job, progress):
    """Starts a child of its own, says who they are, and never ends."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    progress({"pids": [os.getpid(), child.pid]})
    time.sleep(600)


def hang_in_native_code(job, progress):
    """Holds the interpreter's lock for ever: no thread of this process runs any more."""
    progress({"pids": [os.getpid()]})
    ctypes.PyDLL(None).sleep(600)


def flood(job, progress):
    line = "x" * 999
    for number in range(job["lines"]):
        print(number, line)
    print("the end")
    sys.stdout.flush()
    os.write(1, b"y" * (8 << 20))  # a line without an end
    return "done"


def leave_a_child(job, progress):
    """Ends while a child of its own still has the output open."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return child.pid


def fall_back(job, progress):
    for _ in range(3):
        print(
            "[W compiler_depend.ts:26] Warning: CAUTION: The operator 'aten::foo' is not currently supported on the "
            "NPU backend and will fall back to run on the CPU. This may have performance implications."
        )


def half(job, progress):
    """Dies in the middle of a message."""
    os.write(int(sys.argv[1]), b'{"result": [1, 2')
    os._exit(0)


def environment(job, progress):
    return {name: os.environ.get(name) for name in job["names"]}

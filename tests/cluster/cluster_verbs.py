"""Verbs of jobs on an engine, in processes of their own."""

import os
import shutil
import signal
import time
from pathlib import Path

from porting.cluster.conversion_job import fill_part
from porting.errors import UsageError


def echo(job, progress):
    progress({"step": 1})
    return {"heard": job["text"], "pid": os.getpid()}


def copy(job, progress):
    """Each input, and 18 MB more, into the output folder. Says where they lay."""
    folder = Path(job["output"])
    folder.mkdir()
    for name, path in job["files"].items():
        (shutil.copytree if Path(path).is_dir() else shutil.copyfile)(path, folder / name)
    (folder / "large").write_bytes(b"\x01\x02\x03" * 6_000_000)
    (folder / "empty").touch()
    return {"lay": job["files"]}


def half(job, progress):
    """Writes a part of its output, and dies."""
    Path(job["output"]).mkdir()
    (Path(job["output"]) / "some").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(job, progress):
    raise UsageError("asked wrongly")


def fail(job, progress):
    raise ValueError("no such thing")


def nothing(job, progress):
    return {}


def sleep(job, progress):
    """Says that it began, and ends when the file `until` is there."""
    Path(job["began"]).mkdir(exist_ok=True)
    (Path(job["began"]) / f"{os.getpid()}").touch()
    progress({"pid": os.getpid()})
    while not Path(job["until"]).exists():
        time.sleep(0.05)
    if "output" in job:
        Path(job["output"]).write_text("woke")
    return {"pid": os.getpid()}


def threads(job, progress):
    return {"threads": os.environ.get("OMP_NUM_THREADS"), "python": os.environ.get("PYTHONPATH", "")}


def fill_and_die(job, progress):
    """A worker of a conversion that dies when it has done half of its share."""
    fill_part({**job, "names": job["names"][: len(job["names"]) // 2]}, progress)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_slowly(job, progress):
    """One that says who it is when it has done half, and goes on when `go` is beside the part."""
    fill_part({**job, "names": job["names"][: len(job["names"]) // 2]}, progress)
    progress({"lost": f"pid {os.getpid()}"})  # what reaches people
    beside = Path(next(iter(job["parts"].values()))).parent
    while not (beside / "go").exists():
        time.sleep(0.05)
    return fill_part(job, progress)

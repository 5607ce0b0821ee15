"""What is looked at to find devices: one frozen value, so that a test can plant an Ascend, or half of one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from importlib import metadata
from pathlib import Path

from porting.backends.names import BackendName
from porting.backends.process import Outcome, call
from porting.errors import PortError, first_line_of

PROBE_SECONDS = 120.0
"""For a framework to start and touch its device: the first start of a cold one, on a slow disk, took 40."""

COMMAND_SECONDS = 20.0
"""For npu-smi or nvidia-smi, which hang when a driver does."""


@dataclass(frozen=True, slots=True)
class System:
    """A view of a machine.

    environ: variables. which: a program's path by its name, or None. glob: paths that match. read: a file's text, or ``
    where it cannot be read. version: a module's installed version, `` where it has none, None where there is no such
    module; it is not imported. command: output of a program, errors included, or why it gave none.
    probe: what came of making a backend ready (porting.backends.device) in a process of its own.
    """

    environ: Mapping[str, str]
    which: Callable[[str], str | None]
    glob: Callable[[str], Sequence[str]]
    read: Callable[[str], str]
    version: Callable[[str], str | None]
    command: Callable[[Sequence[str]], str]
    probe: Callable[[BackendName], Outcome]


def this_machine() -> System:
    """The machine that this runs on."""
    return System(dict(os.environ), shutil.which, _glob, _read, _version, _command, _probe)


def _glob(pattern: str) -> list[str]:
    return sorted(glob(pattern))  # noqa: PTH207 - an absolute pattern, and names are wanted


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _version(module: str) -> str | None:
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return metadata.version(module)
    except metadata.PackageNotFoundError:  # under another name (onnxruntime-gpu), or beside no metadata at all
        return ""
    except ValueError:  # a module without a spec, as some stand-ins are
        return ""


def _command(words: Sequence[str]) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - programs that `which` found
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not answer within {COMMAND_SECONDS:g} s"
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    return ran.stdout.decode("utf-8", "replace")


def _probe(backend: BackendName) -> Outcome:
    """A mistake that the backend itself names (PortError) is a crash's reason here."""
    job = {"verb": "hello" if backend.interpreter else "describe", "framework": backend.known, "backend": str(backend)}
    with tempfile.TemporaryDirectory(prefix="porting-probe-", ignore_cleanup_errors=True) as folder:
        try:
            return call(backend, job, timeout=PROBE_SECONDS, folder=Path(folder))
        except PortError as error:
            return Outcome("crashed", reason=first_line_of(error))

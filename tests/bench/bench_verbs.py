"""What becomes of processes that cells train in: each function stands in for porting.bench.train_job.train_cell."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import result

from porting.errors import UsageError


def done(job: Any, progress: Any) -> dict[str, Any]:
    progress({"pid": os.getpid()})
    start = time.monotonic()
    time.sleep(0.3)
    return {**result(steps=20, step=0.01), "start": start}


def memory_error(job: Any, progress: Any) -> None:
    raise MemoryError


def cuda(job: Any, progress: Any) -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 10.76 GiB")


def limited(job: Any, progress: Any) -> None:
    """Asks for what the system does not let it have."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), resource.RLIM_INFINITY))
    np.ones(1 << 28)


def killed(job: Any, progress: Any) -> None:
    progress({"pid": os.getpid()})
    os.kill(os.getpid(), signal.SIGKILL)


def aborted(job: Any, progress: Any) -> None:
    os.abort()


def silent(job: Any, progress: Any) -> None:
    progress({"pid": os.getpid()})
    time.sleep(60)


def refused(job: Any, progress: Any) -> None:
    raise UsageError("bert: sequences of 600, wanted at most 512")


def wrong(job: Any, progress: Any) -> None:
    raise ValueError("shapes do not fit")

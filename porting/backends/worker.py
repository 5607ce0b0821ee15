"""The process that a backend runs in: `python -m porting.backends.worker FD`, started by porting.backends.process.

It reads one job, a line of JSON, from standard input, runs the function of the job's verb, and reports on the pipe FD.
Standard input stays open as long as the process that started it lives; when that dies, whatever the
way, a watcher kills this process with all its children.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from porting.backends.lifeline import say_by
from porting.backends.message import encode_error
from porting.backends.recorder.recorder import first_line, watch
from porting.errors import PortError, UsageError
from porting.version import VERSION

Progress = Callable[[Mapping[str, Any]], None]
"""Takes JSON values, which reach the caller of `process.call` at once."""

Verb = Callable[[Mapping[str, Any], Progress], Any]
"""Takes the job, returns JSON values. Large data go into files that the job names by absolute paths."""

VERBS: dict[str, str] = {
    "describe": "porting.backends.device:describe",
    "capture": "porting.parity.capture_job:capture",
    "captures": "porting.parity.capture_job:captures",
    "bench_cell": "porting.bench.cell_job:bench_cell",
}
"""Where the function of each verb is, `module:function`, imported when it is called.

A job may name such a place itself, as its verb.
"""


def main() -> None:
    """Do one job and end the process."""
    channel = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    job = json.loads(first_line())
    watch(channel.fileno())
    faulthandler.register(signal.SIGUSR1, all_threads=True)

    def tell(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    say_by(lambda text: tell({"error": encode_error(UsageError(text))}))
    code = 0
    try:
        tell({"result": run(job, lambda values: tell({"progress": values}))})
    except PortError as error:
        tell({"error": encode_error(error)})
    except Exception as error:  # noqa: BLE001 - whatever a framework or a model raises is reported
        traceback.print_exc()
        tell({"exception": "".join(traceback.format_exception_only(error)).strip()})
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a framework's clean-up at exit may hang or crash, and the result is out


def run(job: Mapping[str, Any], progress: Progress) -> Any:
    """What the function of the job's verb returns. Raises: UsageError for an unknown verb or another kit's job."""
    if job["version"] != VERSION:
        raise UsageError(f"{sys.executable}: has porting kit {VERSION}; wanted {job['version']}, as here")
    place = VERBS.get(job["verb"], job["verb"])
    module, colon, name = place.partition(":")
    if not colon:
        raise UsageError(f"verb {place}: not known; there are {', '.join(VERBS)}")
    function: Verb = getattr(import_module(module), name)
    return function(job, progress)


if __name__ == "__main__":
    main()

"""Records a user's own model in an interpreter of its own: one file, Python 3.7 or later, needs numpy and no kit.

Started by porting.backends.process as `python recorder.py FD`. It reads one job, a line of JSON, from
standard input, and answers on the pipe FD with a line of JSON, as porting.backends.message describes.

hello: {"verb": "hello", "framework": "tensorflow"}
    which Python, numpy and framework these are, and which devices the framework has

record: {"verb": "record", "entry": "/path/model.py:run", "batch": "/path/batch.npz", "folder": "/path/new"}
    calls `run(batch)`, batch being a dict of numpy arrays, which returns the taps in the order of computation:
    a dict, or pairs, of name and array (numpy's, or the framework's tensor). Of a generator of pairs one tensor at a
    time is in memory. A name may begin with `weights/` or `gradients/`: it is no tap then. Writes folder/00000.npy …,
    and last folder/index.json, which is also the answer:
    {"taps": [{"name", "file", "shape", "dtype"}], "python", "numpy", "framework", "version"}
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERBS = ("hello", "record")


class EntryError(Exception):
    """A mistake of the user, in one line. It becomes a UsageError of the kit."""


def main() -> None:
    """Do one job and end the process."""
    channel = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    job = json.loads(first_line())
    watch(channel.fileno())
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    code = 0
    answer: dict[str, Any]
    try:
        answer = {"result": hello(job) if job["verb"] == "hello" else record(job)}
    except EntryError as error:
        answer = {"error": {"class": "UsageError", "args": [str(error)]}}
    except Exception as error:  # noqa: BLE001 - whatever a framework or a model raises is reported
        traceback.print_exc()
        answer = {"exception": "".join(traceback.format_exception_only(type(error), error)).strip()}
        code = 1
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a framework's clean-up at exit may hang or crash, and the answer is out


def hello(job: dict[str, Any]) -> dict[str, Any]:
    """Versions and devices. A framework that cannot be imported is an exception with its text."""
    devices: list[str] = []
    if job.get("framework"):
        devices = _devices(importlib.import_module(job["framework"]))
    return {**_versions(), "devices": devices}


def _devices(framework: Any) -> list[str]:
    """Names of the devices that TensorFlow 1 and 2, PyTorch and MindSpore show."""
    if framework.__name__ == "tensorflow":
        if hasattr(getattr(framework, "config", None), "list_logical_devices"):
            return [each.name for each in framework.config.list_logical_devices()]
        local = importlib.import_module("tensorflow.python.client.device_lib")
        return [each.name for each in local.list_local_devices()]
    if framework.__name__ == "torch":
        return ["cpu", *(f"cuda:{i}" for i in range(framework.cuda.device_count()))]
    if framework.__name__ == "mindspore":
        return [str(framework.get_context("device_target"))]
    return []


def record(job: dict[str, Any]) -> dict[str, Any]:
    """Run the user's function on the batch and write what it returns. Raises: EntryError."""
    import numpy as np

    entry, folder = job["entry"], Path(job["folder"])
    run = _function(entry)
    with np.load(job["batch"], allow_pickle=False) as arrays:
        batch = {name: arrays[name] for name in arrays.files}
    folder.mkdir(parents=True)
    taps: dict[str, dict[str, Any]] = {}
    for name, value in _pairs(run(batch), entry):
        if name in taps:
            raise EntryError(f"{entry}: gave the tap {name} twice")
        array = _array(value, f"{entry}: tap {name}")
        file = f"{len(taps):05d}.npy"
        np.save(str(folder / file), array, allow_pickle=False)
        taps[name] = {"name": name, "file": file, "shape": list(array.shape), "dtype": array.dtype.name}
    if not taps:
        raise EntryError(f"{entry}: returned no tap")
    index = {"taps": list(taps.values()), **_versions()}
    (folder / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return index


def _function(entry: str) -> Any:
    """The function of FILE:FUNCTION, which can import what lies beside FILE. Raises: EntryError."""
    path, _, name = entry.rpartition(":")
    file = Path(path)
    if not path or not file.is_file():
        raise EntryError(f"{entry}: wanted FILE.py:FUNCTION, and there is no file {path or entry}")
    spec = importlib.util.spec_from_file_location(file.stem, path)
    if spec is None or spec.loader is None:
        raise EntryError(f"{entry}: {path} is no Python file")
    sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise EntryError(f"{entry}: there is no function {name} in {path}")
    return function


def _pairs(returned: Any, entry: str) -> Iterator[tuple[str, Any]]:
    """Names and values, one pair at a time. Raises: EntryError for what is neither a dict nor pairs."""
    pairs = returned.items() if hasattr(returned, "items") else returned
    if not hasattr(pairs, "__iter__"):
        raise EntryError(f"{entry}: wanted a dict, or pairs, of name and array, got {type(returned).__name__}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise EntryError(f"{entry}: wanted pairs of name and array, got {type(pair).__name__}")
        yield pair


def _array(value: Any, what: str) -> Any:
    """A numpy array of any framework's tensor; bfloat16 as float32, which holds it exactly. Raises: EntryError."""
    import numpy as np

    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    if str(getattr(value, "dtype", "")) == "BFloat16":  # MindSpore, whose asnumpy refuses it
        value = value.float()
    for method in ("asnumpy", "numpy"):  # MindSpore; PyTorch and TensorFlow 2
        if hasattr(value, method):
            value = getattr(value, method)()
            break
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # TensorFlow's own extension of numpy
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise EntryError(f"{what}: wanted numbers, got {type(value).__name__} of dtype {array.dtype}")
    return array


def _versions() -> dict[str, str]:
    """Of Python, numpy and the framework that has been imported."""
    import numpy as np

    found = {"python": sys.version.split()[0], "numpy": np.__version__, "framework": "", "version": ""}
    for name in ("tensorflow", "mindspore", "torch", "onnxruntime"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            return {**found, "framework": name, "version": str(version)}
    return found


def first_line() -> str:
    """What stands before the first line break on standard input, and not a byte more."""
    found = bytearray()
    while not found.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            raise SystemExit("this is started by porting.backends.process")
        found += more
    return found.decode("utf-8")


def watch(channel: int) -> None:
    """Leave a process behind that kills this group when standard input ends: when the kit's process is gone.

    A process, not a thread: a native call that hangs may hold the interpreter's lock for ever. It is made before
    any framework starts threads, and is killed with the group when the job is done.
    """
    if os.getpid() != os.getpgrp():
        raise SystemExit("this wants a process group of its own, and is started by porting.backends.process")
    nothing = os.open(os.devnull, os.O_RDWR)
    if os.fork() == 0:
        os.close(channel)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        while os.read(0, 1 << 16):
            pass
        os.killpg(0, signal.SIGKILL)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    main()

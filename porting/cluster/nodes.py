"""The nodes of a Ray cluster, and how it is reached."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from porting.cluster.job import KINDS, Job
from porting.errors import UsageError
from porting.extras import require

PATIENCE = 5.0
"""Seconds that an address has to answer: Ray itself tries for two minutes, and then ends the process."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How HTTP/2, which Ray's head speaks, begins (RFC 9113, 3.4): the client's preface, and settings without a value."""

SETTINGS = 4
"""Type of the frame that a server answers with, the fourth byte (RFC 9113, 4.1 and 6.5)."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive. resources: all that it has, by Ray's names."""

    number: str
    name: str
    resources: Mapping[str, float]

    def fits(self, needs: Mapping[str, float]) -> bool:
        """Whether it has what a job needs, were it idle."""
        return all(self.resources.get(ray_name(name), 0) >= count for name, count in needs.items())

    def __str__(self) -> str:
        shown = [f"{name} {count:g}" for name, count in sorted(self.resources.items()) if _is_shown(name)]
        return f"{self.name} {self.number[:8]} ({', '.join(shown) or 'nothing to run on'})"


def ray_name(need: str) -> str:
    """A resource as Ray calls it.

    >>> ray_name("npu"), ray_name("bigmem")
    ('NPU', 'bigmem')
    """
    return need.upper() if need in KINDS else need


def _is_shown(name: str) -> bool:
    """Not what every node has: memory, its own address, the type of its accelerator."""
    return name not in {"memory", "object_store_memory"} and not name.startswith(("node:", "accelerator_type:"))


def options(needs: Mapping[str, float]) -> dict[str, Any]:
    """What a task of Ray is told of its needs."""
    custom = {ray_name(name): count for name, count in needs.items() if name not in {"cpu", "gpu"}}
    return {"num_cpus": needs.get("cpu", 0), "num_gpus": needs.get("gpu", 0), "resources": custom}


def nodes(ray: Any) -> list[Node]:
    """Those that are alive."""
    return [
        Node(each["NodeID"], each["NodeManagerHostname"], each["Resources"]) for each in ray.nodes() if each["Alive"]
    ]


def check_needs(jobs: Sequence[Job], there: Sequence[Node]) -> None:
    """Raises: UsageError for a job that fits on no node, with what there is."""
    for job in jobs:
        if not any(node.fits(job.needs) for node in there):
            raise UsageError(f"{job.name}: {nowhere(job.needs, there)}")


def nowhere(needs: Mapping[str, float], there: Sequence[Node]) -> str:
    """That no node has what is needed, in a line."""
    wanted = ", ".join(f"{ray_name(name)} {count:g}" for name, count in needs.items())
    return f"no node has {wanted}; there are: {'; '.join(map(str, there)) or 'none at all'}"


def connect(address: str) -> Any:
    """Ray, connected. The connection stays until this process ends, or `ray.shutdown()`.

    address: HOST:PORT of the head, or `auto`: the cluster that this machine is a node of.
    Raises: UsageError for an address where no cluster is, without Ray, for another cluster than the connected one.
    """
    require("ray", "ray", option="--cluster")
    ray = import_module("ray")
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if address != "auto" and not _same(address, current):
            raise UsageError(f"--cluster {address}: this process is connected to {current} already")
        return ray
    if address != "auto":
        _answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (Exception, SystemExit) as error:  # of many kinds; it ends the process where the head does not answer
        reason = (str(error).splitlines() or ["nothing said"])[0]
        raise UsageError(f"--cluster {address}: {reason}") from error
    _silence()
    return ray


def _silence() -> None:
    """Ray prints what becomes of nodes, forty lines for each, on standard output, where results belong: we say it."""
    worker: Any = import_module("ray._private.worker")
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_args, **_options: None


def _same(address: str, current: str) -> bool:
    """Whether an address is the connected one, which Ray names by number, even where it was named otherwise.

    >>> _same("127.0.0.1:6379", "10.0.0.1:6379"), _same("10.0.0.2:6379", "10.0.0.1:6379")
    (True, False)
    """
    (host, _, port), (known, _, its) = address.rpartition(":"), current.rpartition(":")
    try:
        number = socket.gethostbyname(host.strip("[]"))
    except (OSError, UnicodeError):
        number = host
    return port == its and (number == known or number.startswith("127."))


def _answers(address: str) -> None:
    """Raises: UsageError for what is no address, or where nothing is that may be Ray's head."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--cluster {address}: wanted HOST:PORT of the head, as `ray start --head` shows it, or auto on a node"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as line:
            line.sendall(PREFACE)
            answer = line.recv(9)
    except OSError as error:
        raise UsageError(f"--cluster {address}: {error.strerror or error}") from None
    if len(answer) < 4 or answer[3] != SETTINGS:
        raise UsageError(f"--cluster {address}: what answers there is not the head of a Ray cluster")

"""Ray clusters of several nodes on this machine, whose resources stand for no devices, and a power cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

STORE = 80 << 20
"""Bytes of a node's object store; Ray wants no less."""


@contextmanager
def started(nodes: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """A head that runs nothing, and nodes, where jobs find the tests' verbs."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for node in nodes:
            made.add_node(object_store_memory=STORE, **node)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


def kill_node_of(cluster: Any, pid: int) -> None:
    """Kill the node that a job's process runs on, as a power cut does."""
    import psutil

    above = {each.pid for each in psutil.Process(pid).parents()}
    victim = next(node for node in cluster.list_all_nodes() if raylet_of(node) in above)
    cluster.remove_node(victim, allow_graceful=False)


def raylet_of(node: Any) -> int:
    """The process that a node's workers descend from."""
    return node.all_processes["raylet"][0].process.pid

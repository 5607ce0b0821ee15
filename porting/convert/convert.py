"""`porting.convert`: from a path to a path, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from porting.checkpoint.stream import ALGORITHMS
from porting.convert.account import Done, account
from porting.convert.asked import Asked, laid_out
from porting.convert.fill import Fill, Way, fill_here
from porting.convert.forked import fill_forked
from porting.convert.ledger import Ledger
from porting.convert.run import run
from porting.errors import UsageError


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    to: str,
    source_framework: str | None = None,
    source_format: str | None = None,
    family: str | None = None,
    source_dialect: str | None = None,
    config: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - the word that users know
    prefix: str | None = None,
    like: str | Path | None = None,
    layers: Sequence[int] | None = None,
    dtype: str | None = None,
    with_optimizer: bool = False,
    optimizer: str | Path | None = None,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    require: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    shard_size: int | None = None,
    graph: str | Path | None = None,
    extra: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    verify: bool = True,
    hash: str = "xxh3_128",  # noqa: A002 - likewise
    overwrite: bool = False,
    threads: int = 2,
    fork: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ledger:
    """Convert a checkpoint to another dialect, and return the ledger (which is written as OUTPUT.port.json too).

    to: a dialect (`modelzoo`) or a framework (`mindspore`), whose default dialect is meant.
    like: a checkpoint whose names are followed; graph, an ONNX model to be written into, is one too.
    output: a file, a prefix for TensorFlow, or a folder; beside the source if absent.
    layers: source layers to keep, in target order; they are renumbered from 0.
    require: groups that must be there. variables: values for free fields of names (`{"task": "mnli"}`).
    verify: read the output back and compare hashes before it gets its name.
    hash: xxh3_128; sha256, which then also covers the input files; or none, which wants verify=False and leaves a
    ledger that nothing can be verified by.
    threads: of this process. fork: a fork of this process and one thread in their stead, as `port` does: faster, and
    for a process in which nothing else runs. workers: processes that bring tensors over, each with one thread. The
    result is always the same to the byte. cluster: address of a Ray cluster on whose nodes the workers run, which all
    see the files.
    progress: called with bytes done and bytes to do. tell: takes a line for people: a node that was lost.
    Raises: MismatchError, UsageError, FormatError; nothing is left behind and nothing was overwritten then.
    """
    if hash not in ALGORITHMS:
        raise UsageError(f"--hash {hash}: wanted one of {', '.join(ALGORITHMS)}")
    if hash == "none" and verify:
        raise UsageError("--hash none leaves nothing to verify by: it wants --no-verify")
    asked = Asked(
        source=str(source), output=None if output is None else str(output), to=to, source_framework=source_framework,
        source_format=source_format, family=family, source_dialect=source_dialect,
        config=None if config is None else str(config), format=format, prefix=prefix,
        like=str(like) if like else None, layers=None if layers is None else tuple(layers), dtype=dtype,
        with_optimizer=with_optimizer, optimizer=str(optimizer) if optimizer else None,
        allow_missing=tuple(allow_missing), allow_unexpected=tuple(allow_unexpected), require=tuple(require),
        variables=dict(variables or {}), shard_size=shard_size, graph=str(graph) if graph else None,
        extra=dict(extra or {}),
    )  # fmt: skip
    job = laid_out(asked)
    if dry_run:
        return account(job, Done())
    if workers is not None or cluster is not None:
        fill = _by_workers(asked, workers, cluster, tell)
    else:
        fill = fill_forked if fork else fill_here
    return run(job, Way(hash, verify, threads), overwrite=overwrite, report=progress, fill=fill)


def _by_workers(asked: Asked, workers: int | None, cluster: str | None, tell: Callable[[str], None] | None) -> Fill:
    """Raises: UsageError for a cluster that is not there."""
    from porting.cluster.conversion import Workers

    return Workers(asked, cluster, workers, tell).fill

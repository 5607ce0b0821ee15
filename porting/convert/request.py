"""What a conversion is asked to do, what is known when its source has been read, and what is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.entry import TensorEntry
from porting.convert.config import Config
from porting.convert.ledger import Record
from porting.convert.match import Match
from porting.convert.naming import Reference
from porting.convert.planned import Dropped
from porting.convert.sizes import Bound
from porting.convert.source import Source
from porting.convert.table import Dialect


class Request(NamedTuple):
    """What a conversion was asked to do; the command's options by the same names.

    to: a dialect or a framework. source_framework: the left half of a direction such as tf2ms.
    """

    source: Path
    to: str
    source_framework: str | None = None
    source_format: str | None = None
    family: str | None = None
    source_dialect: str | None = None
    config: Path | str | None = None
    prefix: str | None = None
    like: Path | None = None
    layers: tuple[int, ...] | None = None
    dtype: str | None = None
    with_optimizer: bool = False
    optimizer: Path | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


class Setting(NamedTuple):
    """What is known before anything is planned: both sides, and how the models of the source are bound.

    unexpected: names that no row knows and that are allowed.
    """

    request: Request
    source: Source
    match: Match
    bounds: tuple[Bound, ...]
    dialect: Dialect
    config: Config
    like: Reference | None
    unexpected: tuple[str, ...]

    @property
    def title(self) -> str:
        """What a refusal begins with."""
        of = f"{self.match.family.name} {self.match.dialect.name}"
        return f"{self.source.checkpoint.path}: {of} does not convert to {self.dialect.name}"


class Prepared(NamedTuple):
    """A conversion ready to run: the target's entries in order, and a record of how each comes about.

    tree: what a PyTorch training checkpoint is made of (`torch_tree`); None for a plain checkpoint.
    """

    request: Request
    source: Source
    match: Match
    bounds: tuple[Bound, ...]
    dialect: Dialect
    config: Config
    entries: Mapping[str, TensorEntry]
    records: tuple[Record, ...]
    dropped: tuple[Dropped, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    absent: tuple[str, ...]
    tree: Any
    notes: tuple[str, ...]

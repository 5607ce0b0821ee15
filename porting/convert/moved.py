"""What became of the parameters, and what of the optimizer's state: the two sides of carrying it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from porting.checkpoint.entry import TensorEntry
from porting.convert.ledger import Record
from porting.convert.naming import Reference
from porting.convert.planned import Dropped, Plan
from porting.convert.source import Source
from porting.convert.table import Dialect


class Carried(NamedTuple):
    """What becomes of the optimizer's state.

    entries: target entries beside the parameters. optimizer: for PyTorch, its state_dict in the values of
    `torch_tree`, tensors by the names of entries; None for all others.
    """

    entries: Mapping[str, TensorEntry] = {}
    records: tuple[Record, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    optimizer: Mapping[str, Any] | None = None


class Moved(NamedTuple):
    """What became of the parameters, which decides about their slots.

    dropped: parameters that were not carried over. like: a reference that the target follows.
    """

    source: Source
    plans: Sequence[Plan]
    dropped: Sequence[Dropped]
    dialect: Dialect
    like: Reference | None = None

"""Plans become entries to write and records of them: in which order, tied to what, in which dtype."""

from __future__ import annotations

from collections.abc import Sequence

from porting.checkpoint.dtypes import DTYPES, DType
from porting.checkpoint.entry import TensorEntry
from porting.convert.cast import cast
from porting.convert.ledger import Record
from porting.convert.naming import Reference
from porting.convert.planned import Plan, Planned
from porting.convert.source import Source
from porting.convert.zeros import Zeroed
from porting.errors import UsageError

_Owners = dict[tuple[str, tuple[int, ...]], str]
"""The first target that is a copy of a source's storage, by that storage's name and the target's shape."""


def parameters(
    source: Source, plans: Sequence[Plan], like: Reference | None, dtype: DType | None
) -> tuple[dict[str, TensorEntry], list[Record]]:
    """Entries and records in the order of the plans, or in that of a reference.

    dtype: what floating tensors are rounded to, None for none.
    """
    made: list[Planned | Zeroed] = []
    for plan in plans:
        made += [*plan.tensors, *plan.zeros]
    if like is not None:
        place = {name: i for i, name in enumerate(like.checkpoint)}
        made.sort(key=lambda one: place.get(one.name, len(place)))
    owners: _Owners = {}
    pairs = [
        _zeros(one, source, dtype) if isinstance(one, Zeroed) else _moved(one, source, dtype, owners) for one in made
    ]
    return {entry.name: entry for entry, _ in pairs}, [record for _, record in pairs]


def _zeros(one: Zeroed, source: Source, dtype: DType | None) -> tuple[TensorEntry, Record]:
    entry = one.entry(dtype or source.entries[one.like].dtype)
    return entry, Record(one.name, (), ("zeros",), entry.shape, entry.dtype.name, group=one.group)


def _moved(one: Planned, source: Source, dtype: DType | None, owners: _Owners) -> tuple[TensorEntry, Record]:
    entry, steps = _tied(one, source, owners), one.steps
    if dtype is not None and cast(entry, dtype) is not entry:
        steps = (*steps, f"cast {entry.dtype} -> {dtype}")
        entry = cast(entry, dtype)
    return entry, Record(one.name, one.all_sources, steps, entry.shape, entry.dtype.name, group=one.group)


def _tied(one: Planned, source: Source, owners: _Owners) -> TensorEntry:
    """The entry, tied to an earlier one that is a copy of the same storage."""
    entry = one.entry(source.entries.__getitem__)
    if not one.is_copy:
        return entry
    storage = source.entries[one.sources[0]].tied or one.sources[0]
    owner = owners.setdefault((storage, entry.shape), one.name)
    return entry if owner == one.name else entry._replace(tied=owner)


SCALED = frozenset({"float4_e2m1fn", "float8_e8m0fnu"})
"""Parts of the OCP microscaling formats: without NaN or without sign, they mean nothing without their other half."""


def float_dtype(name: str | None) -> DType | None:
    """The floating dtype of that name.

    Raises: UsageError listing those there are.
    """
    if name is None:
        return None
    floats = [kind.name for kind in DTYPES.values() if kind.kind == "float" and kind.name not in SCALED]
    if name not in floats:
        raise UsageError(f"--dtype {name}: wanted one of {', '.join(floats)}")
    return DTYPES[name]

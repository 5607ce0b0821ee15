"""What a plan is made of: a target tensor, what is left out, how the target is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from porting.checkpoint.entry import TensorEntry
from porting.convert.arrange import Arranged, Part
from porting.convert.rule import Rule
from porting.convert.sizes import Bound
from porting.convert.table import Dialect
from porting.convert.zeros import Zeroed

Lookup = Callable[[str], TensorEntry]


class Share(NamedTuple):
    """One source tensor's share of a target: its name, sizes per label, element taken per label, label order."""

    name: str
    dims: tuple[int, ...]
    taken: tuple[int | None, ...]
    order: tuple[int, ...]


class Planned(NamedTuple):
    """A target tensor.

    layer: its layer, None if it belongs to none. dims: size per label; shape: as written; stacked: dims that
    run over the shares. equal: pairs of sources that must hold the same bits. tied: it is a copy of another target.
    """

    name: str
    group: str
    layer: int | None
    rule: Rule
    shares: tuple[Share, ...]
    dims: tuple[int, ...]
    shape: tuple[int, ...]
    stacked: tuple[int, ...]
    equal: tuple[tuple[str, str], ...] = ()
    tied: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that its bytes come from."""
        return tuple(dict.fromkeys(share.name for share in self.shares))

    @property
    def all_sources(self) -> tuple[str, ...]:
        """The same, and those that had to be equal to them."""
        return tuple(dict.fromkeys([*self.sources, *(other for _, other in self.equal)]))

    def entry(self, lookup: Lookup, name: str | None = None) -> TensorEntry:
        """The lazy tensor; with another lookup and name, the same rule on an optimizer's slot."""
        found = [lookup(share.name) for share in self.shares]
        parts = tuple(
            Part(e.storage, e.shape, s.dims, s.taken, s.order) for e, s in zip(found, self.shares, strict=True)
        )
        dtype = found[0].dtype
        if self.is_copy and found[0].shape == self.shape:
            return TensorEntry(name or self.name, self.shape, dtype, found[0].storage, found[0].place)
        return TensorEntry(
            name or self.name,
            self.shape,
            dtype,
            Arranged(parts, self.dims, self.shape, self.stacked, dtype),
            found[0].place,
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """The operations in words: those of the rule, and layers that are chosen from an axis."""
        taken = sum(at is not None for at in self.shares[0].taken)
        if taken == len(self.rule.split):
            return self.rule.steps
        return ("choose layers", *(step for step in self.rule.steps if step != "copy"))

    @property
    def is_copy(self) -> bool:
        """One whole source tensor, its bytes as they are, under the same shape."""
        share = self.shares[0]
        same = share.dims == self.dims == self.shape and all(at is None for at in share.taken)
        return len(self.shares) == 1 and not self.stacked and same and share.order == tuple(range(len(self.dims)))


class Dropped(NamedTuple):
    """A source tensor that is not carried over, and why. zero: it may be left out only because it is zero."""

    name: str
    reason: str
    zero: bool = False


class Plan(NamedTuple):
    """What becomes of one model. problems: why it cannot be done, all of them."""

    bound: Bound
    dialect: Dialect
    tensors: tuple[Planned, ...]
    zeros: tuple[Zeroed, ...]
    dropped: tuple[Dropped, ...]
    absent: tuple[str, ...]
    prefixes: Mapping[str, str]
    problems: tuple[str, ...]


class Target(NamedTuple):
    """How the target is to be named.

    prefix: of a level, with everything that stands before it. variables: values of free name fields.
    settings: booleans that choose variants (`untie_r`). layers: source layers in target order, None for all.
    wanted: full names a reference lists, None without a reference; it decides about tied copies and spellings.
    untied: source tensors that a row calls tied but whose bits differ from their partner's.
    """

    dialect: Dialect
    prefix: Mapping[str, str]
    variables: Mapping[str, str] = {}
    settings: Mapping[str, bool] = {}
    layers: tuple[int, ...] | None = None
    wanted: frozenset[str] | None = None
    untied: frozenset[str] = frozenset()

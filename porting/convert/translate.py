"""Two checkpoints brought to one dialect: the first read under the second's names, lazily, for comparison.

A conversion refuses what does not fit. Here whatever fits is paired, and the rest is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.checkpoint.storage import InMemory
from porting.convert.assemble import same
from porting.convert.config import Config, find_config
from porting.convert.identify import Identified
from porting.convert.match import Match, Model
from porting.convert.names import collapse
from porting.convert.naming import Wishes, reference, target_of
from porting.convert.plan import plan_model
from porting.convert.planned import Dropped, Plan, Planned
from porting.convert.rule import COPY
from porting.convert.sizes import Bound, axis_size, bind
from porting.convert.slots import slot_name
from porting.convert.ties import tie_pairs
from porting.errors import UsageError


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of a and its counterpart in b.

    name: in b. sources: the tensors of a that it comes from, none for one of zeros. operation: the rule's steps.
    a: None where the tensors of a have not the shapes that the rule wants; a_shape is then what they give.
    """

    name: str
    sources: tuple[str, ...]
    operation: tuple[str, ...]
    a: TensorEntry | None
    a_shape: tuple[int, ...]
    b: TensorEntry


@dataclass(frozen=True)
class Paired:
    """Two checkpoints side by side.

    dialect: whose names they are compared under; None if by their own names. only_a, only_b: tensors without a
    counterpart, by the names of that dialect where it has any. left_out: not compared, with the reason.
    problems: why a could not be carried over whole.
    """

    dialect: str | None
    family: str | None
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    left_out: tuple[Dropped, ...] = ()
    problems: tuple[str, ...] = ()


def pair(a: Identified, b: Identified, config: str | Path | None = None) -> Paired:
    """Pair tensors through the family's table if both are of one, by name otherwise.

    Raises: UsageError if the families differ or the checkpoints hold different numbers of models.
    """
    if a.match is None or b.match is None:
        return _by_name(a, b)
    match_a, match_b = _one_family(a, b, a.match, b.match)
    if match_a.dialect is match_b.dialect and set(a.entries) == set(b.entries):
        return _by_name(a, b)
    if len(match_a.models) != len(match_b.models):
        counts = f"{a.checkpoint.path} holds {len(match_a.models)}, {b.checkpoint.path} holds {len(match_b.models)}"
        raise UsageError(f"cannot compare different numbers of models: {counts}")
    return _Translation(a, b, match_a, match_b, config).paired()


def _by_name(a: Identified, b: Identified) -> Paired:
    ones, twos = {**a.entries, **a.state}, {**b.entries, **b.state}
    pairs = tuple(_same_name(ones, twos, name) for name in twos if name in ones)
    only_a = tuple(name for name in ones if name not in twos)
    only_b = tuple(name for name in twos if name not in ones)
    return Paired(None, b.match.family.name if b.match else None, pairs, only_a, only_b)


def _same_name(a: Mapping[str, TensorEntry], b: Mapping[str, TensorEntry], name: str) -> Pair:
    return Pair(name, (name,), COPY, a[name], a[name].shape, b[name])


def _one_family(a: Identified, b: Identified, match_a: Match, match_b: Match) -> tuple[Match, Match]:
    """Both read as one family: a student of TinyBERT in transformers' names looks like a BERT, and fits both."""
    if match_a.family is match_b.family:
        return match_a, match_b
    for family in (match_a.family.name, match_b.family.name):
        one, two = a.as_family(family), b.as_family(family)
        if one is None or two is None:
            continue
        if one.claimed >= match_a.claimed and two.claimed >= match_b.claimed:
            return one, two
    names = f"{a.checkpoint.path} is {match_a.family.name}, {b.checkpoint.path} is {match_b.family.name}"
    raise UsageError(f"cannot compare different families: {names}")


class _Translation:
    """The plans of a into b's names, and what they leave over on both sides."""

    def __init__(self, a: Identified, b: Identified, one: Match, two: Match, config: str | Path | None) -> None:
        self.a, self.b, self.match_a, self.match_b = a, b, one, two
        found = find_config(one.family, a.checkpoint.path, config)
        self.bounds = tuple(_bound(model, a.entries, found) for model in one.models)
        self.like = reference(b.checkpoint, one, two.dialect)
        self.plans = self._plans(found)
        self.planned = {tensor.name: tensor for plan in self.plans for tensor in plan.tensors}

    def _plans(self, config: Config) -> list[Plan]:
        entries, dialect = self.a.entries, self.match_b.dialect
        ties = (pair for bound in self.bounds for pair in tie_pairs(bound))
        untied = frozenset(one for one, two in ties if not same(entries[one], entries[two]))
        wishes, several = Wishes(config=config.values), len(self.bounds) > 1
        targets = [target_of(b, dialect, wishes, several=several, like=self.like, untied=untied) for b in self.bounds]
        return [plan_model(bound, target, entries) for bound, target in zip(self.bounds, targets, strict=True)]

    def paired(self) -> Paired:
        """Everything of both sides, in b's order."""
        misfits = frozenset(name for bound in self.bounds for name in _misfits(bound, self.a.entries))
        pairs = {one.name: one for one in (*self._parameters(misfits), *self._zeros(), *self._slots(misfits))}
        used = {name for one in pairs.values() for name in one.sources}
        pairs |= self._leftovers(used, set(pairs))
        used |= {name for one in pairs.values() for name in one.sources}
        left_out = [*(line for plan in self.plans for line in plan.dropped), *self._absent_in_a(set(pairs))]
        left_out += self._other_state()
        aside = used | {line.name for line in left_out} | {n for one in self.planned.values() for n in one.all_sources}
        only_a = [name for name in self.planned if name not in self.b.entries]
        only_a += [name for name in self.a.entries if name not in aside]
        aside_b = set(pairs) | {line.name for line in left_out}
        return Paired(
            dialect=self.match_b.dialect.name,
            family=self.match_b.family.name,
            pairs=tuple(pairs[name] for name in self.b.entries if name in pairs),
            only_a=tuple(only_a),
            only_b=tuple(name for name in self.b.entries if name not in aside_b),
            left_out=tuple(left_out),
            problems=(*(line for plan in self.plans for line in plan.problems), *self._unequal()),
        )

    def _parameters(self, misfits: frozenset[str]) -> Iterator[Pair]:
        for name, one in self.planned.items():
            if name in self.b.entries:
                yield self._pair(one, name, dict(zip(one.sources, one.sources, strict=True)), misfits)

    def _pair(self, one: Planned, name: str, sources: Mapping[str, str], misfits: frozenset[str]) -> Pair:
        """sources: from the parameters of the rule to the tensors that it is applied to (their slots, for a slot)."""
        steps, found = one.steps, tuple(sources.values())
        if not misfits.isdisjoint(found):
            shape = _given_shape(one, self.a.entries[found[0]].shape)
            return Pair(name, found, steps, None, shape, self.b.entries[name])
        entry = one.entry(lambda source: self.a.entries[sources[source]], name)
        return Pair(name, found, steps, entry, entry.shape, self.b.entries[name])

    def _zeros(self) -> Iterator[Pair]:
        for plan in self.plans:
            for zero in plan.zeros:
                if zero.name in self.b.entries:
                    entry = zero.entry(self.b.entries[zero.name].dtype)
                    yield Pair(zero.name, (), ("zeros",), entry, entry.shape, self.b.entries[zero.name])

    def _slots(self, misfits: frozenset[str]) -> Iterator[Pair]:
        """Moments of parameters that both sides hold, and scalars, by their roles."""
        one, two = self.match_a.slots, self.match_b.slots
        if one.form is None or two.form is None:
            return
        for name, planned in self.planned.items():
            for role in [role for role in one.form.roles if role in two.form.roles]:
                target = slot_name(two.form, role, name)
                sources = {s: slot for s in planned.sources if (slot := one.roles.get(s, {}).get(role))}
                if target in self.b.entries and len(sources) == len(planned.sources):
                    bad = misfits | {
                        s for p, s in sources.items() if self.a.entries[s].shape != self.a.entries[p].shape
                    }
                    yield self._pair(planned, target, sources, bad)
        for role, source in one.scalars.items():
            if role in two.scalars and one.form.scalars[role].ahead == two.form.scalars[role].ahead:
                entry = _stored_as(self.a.entries[source], self.b.entries[two.scalars[role]])
                yield Pair(entry.name, (source,), COPY, entry, entry.shape, self.b.entries[entry.name])

    def _leftovers(self, used: set[str], made: set[str]) -> dict[str, Pair]:
        """Tensors of one name that the table does not know, or that no plan reaches."""
        taken = used | made
        names = [name for name in self.b.entries if name in self.a.entries and name not in taken]
        return {name: _same_name(self.a.entries, self.b.entries, name) for name in names}

    def _absent_in_a(self, made: set[str]) -> Iterator[Dropped]:
        """Tensors of b that a's dialect has no name for."""
        dialect = self.match_a.dialect.name
        for bound in self.like.models:
            for found in bound.model.found.values():
                if dialect not in found.row.cells:
                    reason = found.row.drop or f"{dialect} has no such tensor"
                    yield from (Dropped(name, reason) for name in found.names.values() if name not in made)

    def _other_state(self) -> Iterator[Dropped]:
        """The optimizer's state, where only one side holds any."""
        one, two = _optimizer_state(self.match_a), _optimizer_state(self.match_b)
        keyed = "optimizer state: PyTorch's is compared between checkpoints of the same names only"
        if not one or not two:
            none = keyed if self.a.state or self.b.state else f"optimizer state: {'b' if one else 'a'} holds none"
            yield from (Dropped(name, none) for name in one or two)
        for found in (self.a, self.b):
            yield from (Dropped(name, keyed) for name in found.state)

    def _unequal(self) -> list[str]:
        """Tensors of a that b's dialect has one for, and that differ among themselves."""
        lines = []
        for one in self.planned.values():
            differ = [two for first, two in one.equal if not equal_bits(self.a.entries[first], self.a.entries[two])]
            if differ:
                first, names = one.equal[0][0], ", ".join(collapse(differ))
                lines.append(
                    f"{one.name}: {self.match_b.dialect.name} has one for all, but {names} differ from {first}"
                )
        return lines


def _bound(model: Model, entries: Mapping[str, TensorEntry], config: Config) -> Bound:
    """With the config where it agrees with the tensors, else without: what is there is compared."""
    bound = bind(model, entries, config.values, config_name=config.name)
    return bind(model, entries) if bound.problems else bound


def _optimizer_state(match: Match) -> tuple[str, ...]:
    slots = match.slots
    return (
        *(name for roles in slots.roles.values() for name in roles.values()),
        *slots.scalars.values(),
        *slots.orphans,
    )


def _stored_as(a: TensorEntry, b: TensorEntry) -> TensorEntry:
    """A number of the optimizer's in b's dtype and shape (frameworks differ in these), if it is the same there."""
    if a.elements == b.elements == 1 and "string" not in (a.dtype.kind, b.dtype.kind):
        value = np.asarray(a.read())
        other = value.astype(b.dtype.numpy())
        if (other.astype(value.dtype) == value).all():
            return TensorEntry(b.name, b.shape, b.dtype, InMemory(other.reshape(b.shape)), a.place)
    return a._replace(name=b.name)


def _misfits(bound: Bound, entries: Mapping[str, TensorEntry]) -> Iterator[str]:
    """Tensors whose shape is not what their row says."""
    for key, found in bound.model.found.items():
        want = [axis_size(axis, bound.sizes) for axis in bound.forms[key].cell.axes]
        for name in found.names.values():
            got = entries[name].shape
            if len(got) != len(want) or any(w not in (None, g) for w, g in zip(want, got, strict=True)):
                yield name


def _given_shape(one: Planned, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a source of a wrong shape would give, where the rule only reorders its axes."""
    share = one.shares[0]
    plain = len(one.shares) == 1 and len(share.dims) == len(shape) == len(one.shape)
    return tuple(shape[i] for i in share.order) if plain and len(share.order) == len(shape) else shape

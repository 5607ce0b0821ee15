"""How the target is named: by default, by a prefix, or after a reference checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from porting.checkpoint.entry import Checkpoint
from porting.convert.match import Match, Model, match_as
from porting.convert.names import allowed, collapse
from porting.convert.planned import Plan, Target
from porting.convert.sizes import Bound, bind
from porting.convert.table import Dialect, Scope
from porting.errors import UsageError


class Wishes(NamedTuple):
    """What the caller says about names: a base prefix, values of free fields, layers, booleans of the config."""

    prefix: str | None = None
    variables: Mapping[str, str] | None = None
    layers: tuple[int, ...] | None = None
    config: Mapping[str, Any] | None = None


class Reference(NamedTuple):
    """A checkpoint whose names are followed. models: bound, in the order of the source's models."""

    checkpoint: Checkpoint
    match: Match
    models: tuple[Bound, ...]

    @property
    def wanted(self) -> frozenset[str]:
        """The parameters' names; slots and scalars of an optimizer are not asked for."""
        found = (name for model in self.match.models for f in model.found.values() for name in f.names.values())
        return frozenset([*found, *self.match.unknown])

    @property
    def buffers(self) -> frozenset[str]:
        """Names of what is only ever dropped: no weights, so a checkpoint without them lacks nothing."""
        found = (f for model in self.match.models for f in model.found.values() if f.row.drop)
        return frozenset(name for f in found for name in f.names.values())


def reference(checkpoint: Checkpoint, source: Match, dialect: Dialect) -> Reference:
    """Read a reference as the target dialect.

    Raises: UsageError if its names are not of that dialect.
    """
    match = match_as(tuple(checkpoint), source.family, dialect)
    if not match.models:
        raise UsageError(f"{checkpoint.path}: its names are not {source.family.name} {dialect.name}")
    return Reference(checkpoint, match, tuple(bind(model, checkpoint) for model in match.models))


def _levels(model: Model) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group.at for group in model.family.groups))


def _full(model: Model, scope: Scope, outer: str) -> dict[str, str]:
    return {level: outer + scope.prefix(level) for level in _levels(model)}


def _by_name(dialect: Dialect, name: str) -> Scope:
    return next((s for s in dialect.scopes if name and s.name == name), dialect.scopes[0])


def _translated(outer: str, source: Dialect, target: Dialect) -> str:
    return outer.replace(source.separator, target.separator)


def target_of(
    bound: Bound,
    dialect: Dialect,
    wishes: Wishes,
    *,
    several: bool = False,
    like: Reference | None = None,
    untied: frozenset[str] = frozenset(),
) -> Target:
    """Prefixes, variables and variants for one model.

    several: the checkpoint holds more than one model, so what stands before each is kept.
    """
    model = bound.model
    partner = _partner(bound, like) if like else None
    scope = _by_name(dialect, model.scope.name)
    outer = _translated(model.outer, model.dialect, dialect) if several else ""
    if partner is not None:
        scope, outer = partner.model.scope, partner.model.outer
    if wishes.prefix is not None and (like is not None or several):
        raise UsageError(
            "--prefix names one model of one checkpoint; use --like for a net of several models, and not both"
        )
    if wishes.prefix is not None:
        scope, outer = _from_prefix(dialect, wishes.prefix)
    variables = {**scope.variables, **model.variables}
    settings = _settings(bound, wishes.config or {})
    if partner is not None:
        variables |= partner.model.variables
        settings |= _settings(partner, {})
    variables |= wishes.variables or {}
    wanted = like.wanted if like else None
    return Target(dialect, _full(model, scope, outer), variables, settings, wishes.layers, wanted, untied)


def _from_prefix(dialect: Dialect, prefix: str) -> tuple[Scope, str]:
    """The scope whose base the prefix ends with, longest first, and what stands before it.

    A prefix that no scope ends with stands before everything, which is how such names are read, too.
    """
    fits = [scope for scope in dialect.scopes if prefix.endswith(scope.prefix("base"))]
    if not fits:
        return Scope({}, dialect.scopes[0].variables), prefix
    best = max(fits, key=lambda scope: len(scope.prefix("base")))
    return best, prefix[: len(prefix) - len(best.prefix("base"))]


def _settings(bound: Bound, config: Mapping[str, Any]) -> dict[str, bool]:
    """Booleans that choose variants: those that the source itself shows, then those of the config."""
    settings = {form.when[0]: form.when[1] for form in bound.forms.values() if form.when}
    return settings | {key: value for key, value in config.items() if isinstance(value, bool)}


def _partner(bound: Bound, like: Reference) -> Bound:
    """The reference's model of the same scope name, the same place, or the only one."""
    if len(like.models) == 1:
        return like.models[0]
    for other in like.models:
        if other.model.scope.name == bound.model.scope.name and other.model.outer == bound.model.outer:
            return other
    raise UsageError(
        f"{like.checkpoint.path}: holds {len(like.models)} models, and none of them where the source has one"
    )


def against_sizes(bounds: Sequence[Bound], like: Reference, *, layers_chosen: bool) -> list[str]:
    """Sizes in which a reference differs from a source that cannot be planned."""
    place = like.checkpoint.path.name
    return [
        f"{label}: {place} has {want}, the checkpoint has {bound.sizes[label]}"
        for bound in bounds
        for label, want in _partner(bound, like).sizes.items()
        if bound.sizes.get(label, want) != want and not (layers_chosen and label == "layer")
    ]


class Held(NamedTuple):
    """Plans held against a reference. lacking: names it wants that are allowed to be missing. left_out: planned
    names that it does not have and that are allowed to be left out.
    """

    problems: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()


def against_reference(
    plans: Sequence[Plan], like: Reference, *, missing: Sequence[str], unexpected: Sequence[str]
) -> Held:
    """What the reference and the plans disagree about."""
    planned = {one.name: one.shape for plan in plans for one in plan.tensors}
    planned |= {one.name: one.shape for plan in plans for one in plan.zeros}
    absent = sorted(name for name in like.wanted if name not in planned)
    lacking = [name for name in absent if not allowed(name, missing) and name not in like.buffers]
    extra = [name for name in planned if name not in like.wanted]
    copies = {one.sources for plan in plans for one in plan.tensors if one.tied and one.name in like.wanted}
    doubles = {one.name for plan in plans for one in plan.tensors if not one.tied and one.sources in copies}
    refused = [name for name in extra if name not in doubles and not allowed(name, unexpected)]
    place = like.checkpoint.path.name
    shapes: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for name, shape in planned.items():
        if name in like.wanted and like.checkpoint[name].shape != shape:
            shapes.setdefault((like.checkpoint[name].shape, shape), []).append(name)
    wrong = [
        f"{name}: {place} has {theirs}, the conversion gives {ours}"
        for (theirs, ours), names in shapes.items()
        for name in collapse(names)
    ]
    problems = [f"{name}  missing: {place} wants it (--allow-missing)" for name in collapse(lacking)]
    problems += [f"{name}  unexpected: {place} does not have it (--allow-unexpected)" for name in collapse(refused)]
    fine = tuple(name for name in absent if name not in set(lacking))
    return Held((*problems, *wrong), fine, frozenset(extra) - frozenset(refused))

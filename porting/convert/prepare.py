"""From a path and the user's wishes to a plan in which nothing is left open, before a byte is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.registry import read
from porting.convert.assemble import assemble, same
from porting.convert.config import find_config
from porting.convert.find import find
from porting.convert.match import Match
from porting.convert.names import allowed, collapse, ranges
from porting.convert.naming import Wishes, against_sizes, reference, target_of
from porting.convert.notation import FREE_WORD
from porting.convert.plan import plan_model
from porting.convert.planned import Plan
from porting.convert.registry import families, target_dialect
from porting.convert.request import Prepared, Request, Setting
from porting.convert.sizes import Bound, bind
from porting.convert.source import Source, open_source
from porting.convert.ties import tie_pairs
from porting.errors import MismatchError


def prepare(request: Request) -> Prepared:
    """Read, match, bind and plan.

    Raises: MismatchError with everything that does not fit; UsageError, FormatError.
    """
    source = open_source(request)
    entries = source.entries
    match = _match(request, source)
    dialect = target_dialect(match.family, request.to)
    # A config beside a net of several models is of one of them: it is not held against the others unasked.
    given = "none" if request.config is None and len(match.models) > 1 else request.config
    config = find_config(match.family, source.checkpoint.path, given)
    bounds = tuple(
        bind(model, entries, config.values, config_name=config.name, allow_missing=request.allow_missing)
        for model in match.models
    )
    like = reference(_state_dict(read(request.like)), match, dialect) if request.like else None
    unexpected, refused = _unknown(match, request.allow_unexpected)
    setting = Setting(request, source, match, bounds, dialect, config, like, unexpected)
    unplannable = [problem for bound in bounds for problem in bound.problems] + _layers(request, bounds)
    problems = [*unplannable, *_refusals(source, match, refused), *_required(request, match), *_fields(request, match)]
    if unplannable:
        problems += against_sizes(bounds, like, layers_chosen=request.layers is not None) if like else []
        raise MismatchError(setting.title, problems)
    return assemble(setting, _plans(setting), problems)


def _state_dict(checkpoint: Checkpoint) -> Checkpoint:
    """The parameters of a reference that may be a training checkpoint, or a graph with constants in it."""
    constants = frozenset(checkpoint.metadata.get("constants", ()))
    if constants:
        weights = {name: entry for name, entry in checkpoint.items() if name not in constants}
        return replace(checkpoint, entries=weights)
    if "tree" not in checkpoint.metadata:
        return checkpoint
    from porting.convert.torch_state import state_dict_of

    return state_dict_of(checkpoint)


def _match(request: Request, source: Source) -> Match:
    """The family and dialect of the source.

    Raises: MismatchError naming the checkpoint.
    """
    try:
        return find(
            tuple(source.entries),
            families(),
            family=request.family,
            dialect=request.source_dialect,
            framework=None if request.source_dialect else request.source_framework,
            sizes={name: entry.shape for name, entry in source.entries.items()},
        )
    except MismatchError as error:
        raise MismatchError(f"{source.checkpoint.path}: {error.title}", error.problems) from None


def _unknown(match: Match, patterns: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Names that no row accounts for: those allowed, and those refused."""
    fine = tuple(name for name in match.unknown if allowed(name, patterns))
    return fine, [name for name in match.unknown if name not in set(fine)]


def _refusals(source: Source, match: Match, names: Sequence[str]) -> list[str]:
    """Why names are refused: anonymous ONNX initializers by their own reason, collapsed names otherwise."""
    reasons = source.checkpoint.metadata.get("anonymous", {})
    lines = [
        f"{name}  anonymous: {reasons[name]} (--like REFERENCE names it by value)" for name in names if name in reasons
    ]
    plain = [name for name in names if name not in reasons]
    return lines + [
        f"{name}  unexpected: no row of {match.family.name} {match.dialect.name}" for name in collapse(plain)
    ]


def _required(request: Request, match: Match) -> list[str]:
    known = [group.name for group in match.family.groups]
    there = {name for model in match.models for name in model.groups}
    lacking = [name for name in request.require if name in known and name not in there]
    return [f"group {name}: required, but the checkpoint does not have it" for name in lacking] + [
        f"group {name}: not known; there are {', '.join(known)}" for name in request.require if name not in known
    ]


def _fields(request: Request, match: Match) -> list[str]:
    """Values for fields of names that the family does not have, or that could not be read back."""
    cells = (form.cell for _, row in match.family.rows() for forms in row.cells.values() for form in forms)
    known = sorted({part.name for cell in cells for part in cell.fields if part.kind == "free"})
    there = ", ".join(known) or "none"
    return [f"field {name}: not known; there are {there}" for name in request.variables if name not in known] + [
        f"field {name}: wanted a word without / . and spaces, got {value!r}"
        for name, value in request.variables.items()
        if name in known and not FREE_WORD.fullmatch(value)
    ]


def _layers(request: Request, bounds: Sequence[Bound]) -> list[str]:
    if request.layers is None:
        return []
    if not request.layers or min(request.layers) < 0:
        return [f"--layers {', '.join(map(str, request.layers))}: wanted layers from 0 on"]
    problems = []
    for bound in bounds:
        count = bound.sizes.get("layer")
        beyond = [layer for layer in request.layers if count is not None and layer >= count]
        if beyond:
            problems.append(f"--layers {ranges(beyond)}: the checkpoint has layers 0-{(count or 0) - 1}")
    return problems


def _plans(setting: Setting) -> list[Plan]:
    request, bounds, entries = setting.request, setting.bounds, setting.source.entries
    untied = frozenset(a for bound in bounds for a, b in tie_pairs(bound) if not same(entries[a], entries[b]))
    wishes = Wishes(request.prefix, request.variables, request.layers, setting.config.values)
    several = len(bounds) > 1
    targets = [
        target_of(bound, setting.dialect, wishes, several=several, like=setting.like, untied=untied) for bound in bounds
    ]
    return [plan_model(bound, target, entries) for bound, target in zip(bounds, targets, strict=True)]

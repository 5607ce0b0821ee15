"""The optimizer's state, carried over with the parameters it belongs to or left behind by name.

Moments go by the rule of their parameter, in every direction. Steps, learning rate and the powers of the betas become
what the target's optimizer keeps of them; everything else is dropped with its reason, or said in a note.
"""

from __future__ import annotations

from collections.abc import Sequence

from porting.checkpoint.entry import TensorEntry
from porting.convert.carried import difference, moments, scalar_entry, scalar_record, scalar_value
from porting.convert.ledger import Record
from porting.convert.match import Match
from porting.convert.moved import Carried, Moved
from porting.convert.naming import Reference
from porting.convert.optimizer_state import OptimizerState, state_by_keys, state_by_names
from porting.convert.planned import Dropped, Plan
from porting.convert.slots import slot_name
from porting.convert.source import Source
from porting.convert.table import Dialect, SlotForm
from porting.convert.ties import tie_pairs
from porting.convert.torch_optimizer import torch_optimizer
from porting.convert.torch_parameters import STATE_DICT_ORDER, module_order, parameters_of
from porting.convert.torch_state import TorchState
from porting.errors import MismatchError, UsageError


def leave_optimizer(source: Source, match: Match) -> Carried:
    """Name every slot and scalar that stays behind."""
    slots = match.slots
    names = [name for roles in slots.roles.values() for name in roles.values()]
    names += [*slots.scalars.values(), *slots.orphans, *source.state_tensors]
    return Carried(dropped=tuple(Dropped(name, "optimizer state: --with-optimizer carries it") for name in names))


def carry_optimizer(moved: Moved, match: Match) -> Carried:
    """Slots by the rules of their parameters, scalars by role; the rest is dropped with its reason.

    A reference's optimizer is the target's, if it has one.
    Raises: UsageError if the source has no optimizer state that can be understood, or the target's dialect no
        names for it; MismatchError for slots of other shapes than their parameters.
    """
    source, dialect = moved.source, moved.dialect
    state = _understood(source, match, moved.plans)
    if not dialect.slots:
        raise UsageError(f"--with-optimizer: {dialect.name} has no names for optimizer state")
    form = _target_form(state.form, dialect, moved.like)
    _check_shapes(source, state)
    if dialect.framework == "pytorch":
        return torch_optimizer(moved, state, form)
    carried = moments(moved, state, form, lambda one, role: slot_name(form, role, one.name))
    scalars = _scalars(source, state, form)
    return Carried(
        {**carried.entries, **scalars.entries},
        (*carried.records, *scalars.records),
        (*state.dropped, *carried.dropped, *scalars.dropped),
        (*difference(state.form, form), *carried.notes, *scalars.notes),
    )


def _understood(source: Source, match: Match, plans: Sequence[Plan]) -> OptimizerState:
    """The state of the source, from names or from integers."""
    torch = _chosen(source)
    if torch is None:
        return state_by_names(source.checkpoint.path, match.slots, source.entries)
    order = _parameters(source, match, plans)
    names = parameters_of(torch, order, {name: source.entries[name].shape for name in order})
    return state_by_keys(torch, names, match.dialect.slots)


def _chosen(source: Source) -> TorchState | None:
    """The file that was given as the optimizer's, or the only optimizer in the checkpoint."""
    if source.optimizer is not None or not source.states:
        return source.optimizer
    if len(source.states) > 1:
        places = ", ".join(state.place for state in source.states)
        raise UsageError(f"--with-optimizer: {source.checkpoint.path} holds {len(source.states)} optimizers: {places}")
    return source.states[0]


def _parameters(source: Source, match: Match, plans: Sequence[Plan]) -> list[str]:
    """Names of the model's parameters as `model.parameters()` lists them.

    A file that torch.save wrote has the order of the state dict, which is that of the parameters with buffers and tied
    copies between them. safetensors and indexes of shards are sorted otherwise: there the table says the order.
    """
    copies = {name for plan in plans for name, _ in tie_pairs(plan.bound)} - {
        name for plan in plans for one in plan.tensors for name in one.sources if not one.tied
    }
    buffers = {name for name, entry in source.entries.items() if entry.dtype.kind != "float"}
    tied = {name for name, entry in source.entries.items() if entry.tied is not None}
    if source.checkpoint.format in STATE_DICT_ORDER and len(source.checkpoint.files) == 1:
        order = list(source.entries)
    else:
        rows = [n for plan in plans for one in plan.tensors for n in one.all_sources]
        rows += [line.name for plan in plans for line in plan.dropped if line.name in source.entries]
        order = module_order(dict.fromkeys([*rows, *source.entries]), match.dialect.modules)
    return [name for name in order if name not in copies | buffers | tied]


def _target_form(source: SlotForm, dialect: Dialect, like: Reference | None) -> SlotForm:
    """The reference's optimizer, or the first of the dialect that is closest in how it corrects the bias."""
    if like is not None and like.match.slots.form is not None:
        return like.match.slots.form
    if dialect.framework == "pytorch":
        return dialect.slots[0]
    return max(
        dialect.slots,
        key=lambda form: (form.bias_correction == source.bias_correction, form.epsilon_hat == source.epsilon_hat),
    )


def _check_shapes(source: Source, state: OptimizerState) -> None:
    """Raises: MismatchError naming slots of other shapes than their parameters."""
    wrong = [
        f"{slot}: wanted {source.entries[name].shape} as {name} has, got {source.tensors[slot].shape}"
        for name, roles in state.slots.items()
        for slot in roles.values()
        if source.tensors[slot].shape != source.entries[name].shape
    ]
    if wrong:
        raise MismatchError(f"{source.checkpoint.path}: slots that do not fit their parameters", wrong)


def _scalars(source: Source, state: OptimizerState, form: SlotForm) -> Carried:
    """Step, rate and powers as the target keeps them."""
    entries: dict[str, TensorEntry] = {}
    records: list[Record] = []
    notes: list[str] = []
    for role, scalar in form.scalars.items():
        value = scalar_value(state, role, scalar)
        if value is None:
            if role != "learning_rate":
                notes.append(f"{scalar.name} is not written: the source does not tell it")
            continue
        entry = scalar_entry(scalar.name, value, scalar)
        sources = state.sources.get("step" if role.endswith("_power") and role not in state.sources else role, ())
        entries[scalar.name] = entry
        records.append(scalar_record(source, entry, sources, role))
    gone = [
        Dropped(name, f"{form.optimizer} keeps no {role}")
        for role, names in state.sources.items()
        if role not in form.scalars
        for name in names
    ]
    gone += _options_left(state, form)
    return Carried(entries, tuple(records), tuple(gone), tuple(notes))


def _options_left(state: OptimizerState, form: SlotForm) -> list[Dropped]:
    """Hyper-parameters and steps of PyTorch that the target has no place for, with their values."""
    kept = {"lr"} if "learning_rate" in form.scalars and state.rate else set()
    if "beta1_power" in form.scalars and state.betas:
        kept.add("betas")
    lines = [
        Dropped(f"param_groups.{number}.{key}", f"{form.optimizer} takes it as an argument: here {value}")
        for number, group in enumerate(state.groups)
        for key, value in group.options.items()
        if key not in kept
    ]
    other = [name for name, step in state.steps.items() if step != state.step]
    lines += [
        Dropped(f"step of {name}", f"{state.steps[name]}, where {form.optimizer} has one for all: {state.step}")
        for name in other
    ]
    return lines

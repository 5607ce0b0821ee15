"""Writes a training checkpoint of PyTorch: `{"model": state_dict, "optimizer": state_dict}` in one file of torch.save.

    saved = torch.load("model.hf.bin")
    model.load_state_dict(saved["model"])
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=2e-5)
    optimizer.load_state_dict(saved["optimizer"])

One file, because moments without their weights are worth nothing, and because a ledger is held against one. torch's
`load_state_dict` goes by position and not by name: the integers count the parameters in the order in which the
model of the dialect registers them, and `param_names` stands beside them so that any other order can be told.

State that comes from PyTorch keeps its groups. Any other becomes one group, with the hyper-parameters that the
checkpoint says, else those of the optimizer's code, which a note lists; the learning rate, if nothing says it, is 0,
so that a step without a rate changes nothing. `correct_bias`, the word of transformers' AdamW, is False if the moments
are those of an optimizer without bias correction; torch.optim ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.torch.tree import TensorRef, encode
from porting.convert.carried import difference, moments, scalar_entry, scalar_record, trained
from porting.convert.ledger import Record
from porting.convert.moved import Carried, Moved
from porting.convert.optimizer_state import OptimizerState
from porting.convert.planned import Dropped, Plan, Planned
from porting.convert.source import Source
from porting.convert.table import Scalar, SlotForm
from porting.convert.torch_parameters import STATE_DICT_ORDER, module_order
from porting.convert.zeros import is_zero
from porting.errors import UsageError

MODEL = "model"
OPTIMIZER = "optimizer"

_STEP = Scalar("step")


@dataclass(frozen=True, slots=True)
class _Group:
    """names: target parameters in order. options: hyper-parameters by torch's names."""

    names: tuple[str, ...]
    options: Mapping[str, Any]


def torch_optimizer(moved: Moved, state: OptimizerState, form: SlotForm) -> Carried:
    """The state as torch.optim.AdamW keeps it.

    Raises: UsageError if the source does not say how many steps were taken.
    """
    if state.step is None:
        raise UsageError(
            f"--with-optimizer: {moved.source.checkpoint.path} does not say how many steps {state.form.optimizer} "
            "took, and PyTorch's optimizers go on from a step"
        )
    state = _without_unused_maximum(moved.source, state)
    groups, notes = _groups(moved, state)
    number = {name: i for i, name in enumerate(name for group in groups for name in group.names)}

    def place(one: Planned, role: str) -> str:
        return f"{OPTIMIZER}.state.{number[one.name]}.{form.roles[role]}"

    carried = moments(moved, state, form, place)
    entries, records = _steps(moved, state, carried.entries, number)
    kept: dict[int, dict[str, Any]] = {}
    for name in [*entries, *carried.entries]:
        _, _, key, word = name.split(".")
        kept.setdefault(int(key), {})[word] = TensorRef(name)
    tree = {
        "state": dict(sorted(kept.items())),
        "param_groups": [
            {**group.options, "params": [number[name] for name in group.names], "param_names": list(group.names)}
            for group in groups
        ],
    }
    note = f"{OPTIMIZER}: load_state_dict goes by position; param_names says which parameter is meant"
    target = form._replace(bias_correction=True)
    return Carried(
        {**entries, **carried.entries},
        (*records, *carried.records),
        (*state.dropped, *carried.dropped, *_left(state, form)),
        (*difference(state.form, target), *notes, *carried.notes, note),
        tree,
    )


def nested(
    entries: Mapping[str, TensorEntry], records: Sequence[Record], carried: Carried
) -> tuple[dict[str, TensorEntry], list[Record], Any]:
    """Parameters under `model`, and the tree of the checkpoint; as they were if there is no state for PyTorch."""
    if carried.optimizer is None:
        return dict(entries), list(records), None
    names = {name: f"{MODEL}.{name}" for name in entries}
    renamed = {
        names[name]: entry._replace(name=names[name], tied=names.get(entry.tied or ""))
        for name, entry in entries.items()
    }
    model = {name: TensorRef(full) for name, full in names.items()}
    tree = encode({MODEL: model, OPTIMIZER: carried.optimizer})
    return renamed, [record._replace(target=names[record.target]) for record in records], tree


def _groups(moved: Moved, state: OptimizerState) -> tuple[list[_Group], list[str]]:
    """The target's parameters in groups, in the order of the model, or of a reference that torch.save wrote."""
    origin: dict[str, str] = {}
    for plan in moved.plans:
        if not state.groups and not trained(state, plan):
            continue
        origin |= {one.name: one.sources[0] for one in plan.tensors if not one.tied}
        origin |= {zero.name: zero.like for zero in plan.zeros}
    order = module_order(origin, moved.dialect.modules)
    if moved.like is not None and moved.like.checkpoint.format in STATE_DICT_ORDER:
        place = {name: i for i, name in enumerate(moved.like.checkpoint)}
        order.sort(key=lambda name: place.get(name, len(place)))
    if not state.groups:
        options, notes = _options(state)
        return [_Group(tuple(order), options)], notes
    member = {name: number for number, group in enumerate(state.groups) for name in group.parameters}
    groups = [
        _Group(tuple(name for name in order if member.get(origin[name]) == number), _said(group.options, state.form))
        for number, group in enumerate(state.groups)
    ]
    return groups, _torn(moved.plans, member)


def _torn(plans: Sequence[Plan], member: Mapping[str, int]) -> list[str]:
    torn = [
        one.name
        for plan in plans
        for one in plan.tensors
        if len({member.get(share) for share in one.sources} - {None}) > 1
    ]
    return [f"{name} is made of parameters of several groups, and stands in the first one's" for name in torn]


def _said(options: Mapping[str, Any], form: SlotForm) -> dict[str, Any]:
    """Options of a group of PyTorch's; what BertAdam does not say has AdamW's usual value."""
    known = {key: value for key, value in options.items() if value is not None or key in {"foreach", "fused"}}
    marked = {} if form.bias_correction is not False else {"correct_bias": False}
    return {**form.defaults, **known, **marked}


def _options(state: OptimizerState) -> tuple[dict[str, Any], list[str]]:
    """Options of the only group: what the source says, what its code says, and a rate that changes nothing."""
    told = [power.base if (power := state.betas.get(role)) else None for role in ("beta1", "beta2")]
    usual = state.form.defaults["betas"]
    betas = tuple(beta or other for beta, other in zip(told, usual, strict=True))
    options = {"lr": state.rate or 0.0, **state.form.defaults, "betas": betas}
    assumed = ", ".join(f"{key} {options[key]}" for key in state.form.defaults if key != "betas" or None in told)
    code = f"those of {state.form.optimizer}'s code, the checkpoint does not say them"
    notes = [f"{OPTIMIZER}: {assumed} are {code}"]
    if not state.rate:
        notes.append(
            f"{OPTIMIZER}: lr is 0, the checkpoint does not say it; set it in param_groups after load_state_dict"
        )
    if state.form.bias_correction is False:
        options["correct_bias"] = False
    if any("vmax" in roles for roles in state.slots.values()):
        options["amsgrad"] = True
    return options, notes


def _without_unused_maximum(source: Source, state: OptimizerState) -> OptimizerState:
    """The state without the maxima of AMSGrad if they were never written: MindSpore keeps them in any case."""
    maxima = [roles["vmax"] for roles in state.slots.values() if "vmax" in roles]
    if state.groups or not all(is_zero(source.tensors[name]) for name in maxima):
        return state
    gone = tuple(Dropped(name, "zeros: amsgrad is off") for name in maxima)
    slots = {
        name: {role: slot for role, slot in roles.items() if role != "vmax"} for name, roles in state.slots.items()
    }
    return replace(state, slots=slots, dropped=(*state.dropped, *gone))


def _steps(
    moved: Moved, state: OptimizerState, slots: Mapping[str, TensorEntry], number: Mapping[str, int]
) -> tuple[dict[str, TensorEntry], list[Record]]:
    """A step for every parameter that has moments; its own, where the source counts them per parameter."""
    having = {name.rpartition(".")[0] for name in slots}
    entries: dict[str, TensorEntry] = {}
    records: list[Record] = []
    for one in (one for plan in moved.plans for one in plan.tensors):
        place = f"{OPTIMIZER}.state.{number.get(one.name)}"
        if place not in having or f"{place}.step" in entries:
            continue
        share = one.sources[0]
        step = state.steps.get(share, state.step)
        sources = (state.counters[share],) if share in state.counters else state.sources.get("step", ())[:1]
        entry = scalar_entry(f"{place}.step", step or 0, _STEP)
        entries[entry.name] = entry
        records.append(scalar_record(moved.source, entry, sources, "step")._replace(group=one.group))
    return entries, records


def _left(state: OptimizerState, form: SlotForm) -> list[Dropped]:
    """Scalars of other frameworks that PyTorch derives from step and betas."""
    return [
        Dropped(name, f"{form.optimizer} derives it from step and betas")
        for role, names in state.sources.items()
        if role.endswith("_power")
        for name in names
    ]

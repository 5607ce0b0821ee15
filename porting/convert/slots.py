"""Optimizer slots by name: which tensors are a parameter's moments, which are step and powers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from porting.convert.table import SlotForm


class SlotNames(NamedTuple):
    """What names alone say about the optimizer.

    form: the optimizer whose names were found, or None. roles: parameter name to role to slot name.
    scalars: role to name. orphans: slots whose parameter is not in the checkpoint.
    """

    form: SlotForm | None
    roles: Mapping[str, Mapping[str, str]]
    scalars: Mapping[str, str]
    orphans: tuple[str, ...]


def slot_name(form: SlotForm, role: str, parameter: str) -> str:
    """The name of a parameter's slot."""
    return form.roles[role].replace("{name}", parameter)


def parameter_of(pattern: str, name: str) -> str | None:
    """The parameter that a slot of this pattern belongs to.

    >>> parameter_of("{name}/adam_m", "bert/w/adam_m")
    'bert/w'
    """
    before, mark, after = pattern.partition("{name}")
    if not mark or not before + after or not (name.startswith(before) and name.endswith(after)):
        return None
    inner = name[len(before) : len(name) - len(after)]
    return inner or None


def strip_slots(names: Sequence[str], forms: Sequence[SlotForm]) -> tuple[tuple[str, ...], SlotNames]:
    """Separate parameters from slots and scalars. The form with most slots counts; its absence is no form."""
    present = set(names)
    best: tuple[SlotForm | None, dict[str, dict[str, str]], list[str]] = (None, {}, [])
    for form in forms:
        roles: dict[str, dict[str, str]] = {}
        orphans: list[str] = []
        for role, pattern in form.roles.items():
            before, _, after = pattern.partition("{name}")
            for name in [name for name in names if name.endswith(after) and name.startswith(before)]:
                parameter = parameter_of(pattern, name)
                if parameter is None:
                    continue
                if parameter in present:
                    roles.setdefault(parameter, {})[role] = name
                else:
                    orphans.append(name)
        if sum(map(len, roles.values())) > sum(map(len, best[1].values())):
            best = (form, roles, orphans)
    form_found, roles, orphans = best
    every = (form_found,) if form_found else tuple(forms)
    scalars = {role: scalar.name for form in every for role, scalar in form.scalars.items() if scalar.name in present}
    taken = {slot for slots in roles.values() for slot in slots.values()} | set(scalars.values()) | set(orphans)
    plain = tuple(name for name in names if name not in taken)
    return plain, SlotNames(form_found, roles, scalars, tuple(orphans))

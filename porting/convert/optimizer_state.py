"""An optimizer's state, whatever framework kept it: moments per parameter, steps, betas, hyper-parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.torch.tree import TensorRef
from porting.convert.adam_powers import Power, take_apart
from porting.convert.planned import Dropped
from porting.convert.slots import SlotNames
from porting.convert.table import SlotForm
from porting.convert.torch_state import Key, TorchState
from porting.errors import FormatError, UsageError

_LARGEST_STEP = 1 << 53


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share hyper-parameters, by their names in the source. options: by torch's names."""

    parameters: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer knows.

    form: how the source names it; its bias correction is what the state says, where it says it.
    slots: parameter to role to the source tensor. step: steps taken; None if the source does not say.
    steps: per parameter, where the source counts them so; counters: the tensors that hold those.
    betas: `beta1` and `beta2` as powers, as far as known.
    rate: the learning rate, where the source has one for all. groups: PyTorch's; empty for the others.
    sources: tensors that a role of a scalar comes from.
    """

    form: SlotForm
    slots: Mapping[str, Mapping[str, str]]
    step: int | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, str] = field(default_factory=dict)
    betas: Mapping[str, Power] = field(default_factory=dict)
    rate: float | None = None
    groups: tuple[Group, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()


def state_by_names(path: Path, found: SlotNames, tensors: Mapping[str, TensorEntry]) -> OptimizerState:
    """The state whose slots are named after their parameters: TensorFlow's and MindSpore's.

    path: of the checkpoint, for messages. found: must have a form.
    Raises: FormatError for a scalar that is none; UsageError without a form.
    """
    form = found.form
    if form is None:
        raise UsageError(f"--with-optimizer: {path} holds no optimizer state")
    dropped = [Dropped(name, "its parameter is not in the checkpoint") for name in found.orphans]
    sources = dict(found.scalars)
    step: int | None = None
    if "step" in sources:
        # mindspore.mint counts in float32, AdamW from -1 and Adam from 0, under the name of another optimizer's int32.
        if tensors[sources["step"]].dtype.kind == "float" and form.scalars["step"].dtype != "float32":
            reason = "a count in float32 begins at 0 or at -1, which the checkpoint does not say"
            dropped.append(Dropped(sources.pop("step"), reason))
        else:
            step = _count(path, sources["step"], _scalar(path, tensors[sources["step"]]))
    betas: dict[str, Power] = {}
    for role in ("beta1_power", "beta2_power"):
        if role in sources and step is not None:
            value = _scalar(path, tensors[sources[role]])
            if not 0 <= value <= 1:
                raise FormatError(path, sources[role], f"wanted a power of beta between 0 and 1, got {value}")
            betas[role.removesuffix("_power")] = take_apart(value, step + form.scalars[role].ahead)
    rate = _scalar(path, tensors[sources["learning_rate"]]) if "learning_rate" in sources else None
    return OptimizerState(
        form,
        found.roles,
        step,
        betas=betas,
        rate=rate,
        sources={role: (name,) for role, name in sources.items()},
        dropped=tuple(dropped),
    )


def state_by_keys(torch: TorchState, names: Mapping[Key, str | None], forms: Sequence[SlotForm]) -> OptimizerState:
    """PyTorch's state, whose keys are the parameters of these names.

    Raises: UsageError if no form has such keys.
    """
    form = _form_of(torch, forms)
    slots: dict[str, dict[str, str]] = {}
    steps: dict[str, int] = {}
    counted: dict[str, str] = {}
    dropped: list[Dropped] = []
    of_group = {key: group for group in torch.groups for key in group["params"]}
    for key, kept in torch.state.items():
        name = names[key]
        if name is None:
            where = (value.name for value in kept.values() if isinstance(value, TensorRef))
            dropped += [Dropped(tensor, f"its parameter {key} is not in the checkpoint") for tensor in where]
            continue
        for word, value in kept.items():
            role = next((role for role, pattern in form.roles.items() if pattern == word), None)
            if role is not None and isinstance(value, TensorRef):
                slots.setdefault(name, {})[role] = value.name
            elif word == "step" and isinstance(value, TensorRef):
                counted[name] = value.name
            elif isinstance(value, TensorRef):
                dropped.append(Dropped(value.name, f"{form.optimizer} keeps no {word}"))
        step = torch.number(kept.get("step", of_group[key].get("step")))  # apex counts in the group
        if step is not None:
            steps[name] = _count(torch.file, f"{torch.place}.state.{key}.step".lstrip("."), step)
    groups = tuple(
        Group(tuple(n for key in group["params"] if (n := names[key]) is not None), _options(torch, group))
        for group in torch.groups
    )
    return OptimizerState(
        form._replace(bias_correction=_corrects(form, groups)),
        slots,
        Counter(steps.values()).most_common(1)[0][0] if steps else None,
        steps,
        counted,
        _betas(groups),
        _common(torch.number(group.options.get("lr")) for group in groups),
        groups,
        {"step": tuple(counted.values())} if counted else {},
        tuple(dropped),
    )


def _form_of(torch: TorchState, forms: Sequence[SlotForm]) -> SlotForm:
    words = {word for kept in torch.state.values() for word in kept}
    for form in forms:
        if {form.roles["m"], form.roles["v"]} <= words:
            return form
    known = ", ".join(f"{form.optimizer} ({form.roles['m']}, {form.roles['v']})" for form in forms) or "none"
    got = ", ".join(sorted(map(str, words))) or "nothing: it has taken no step"
    raise UsageError(f"--with-optimizer: {torch.title}: its state holds {got}; known is {known}")


def _options(torch: TorchState, group: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters by torch's names; those of BertAdam are translated, tensors become numbers."""
    options = {key: value for key, value in group.items() if key not in {"params", "param_names", "step"}}
    options = {key: torch.number(value) if isinstance(value, TensorRef) else value for key, value in options.items()}
    if "b1" in options and "b2" in options:
        options["betas"] = (options.pop("b1"), options.pop("b2"))
        options["eps"] = options.pop("e", None)
    betas = options.get("betas")
    if isinstance(betas, list | tuple):
        options["betas"] = tuple(torch.number(beta) for beta in betas)
    return options


def _corrects(form: SlotForm, groups: Iterable[Group]) -> bool | None:
    """What the groups say (transformers' AdamW: correct_bias, apex: bias_correction), or else the optimizer's way."""
    said = [g.options[key] for g in groups for key in ("correct_bias", "bias_correction") if key in g.options]
    return bool(said[0]) if said else form.bias_correction


def _betas(groups: Sequence[Group]) -> dict[str, Power]:
    pair = _common(group.options.get("betas") for group in groups)
    if not isinstance(pair, tuple) or len(pair) != 2 or any(not isinstance(b, float) or not 0 <= b < 1 for b in pair):
        return {}
    return {f"beta{number}": Power(1.0, 0, beta) for number, beta in enumerate(pair, 1)}


def _common(values: Iterable[Any]) -> Any:
    """The value if it is the same in all groups."""
    found = list(values)
    return found[0] if found and all(value == found[0] for value in found) else None


def _scalar(path: Path, entry: TensorEntry) -> float:
    if entry.elements != 1 or entry.dtype.kind not in {"int", "uint", "float"}:
        raise FormatError(path, entry.name, f"wanted one number, got {entry.dtype} {entry.shape}")
    return float(entry.read().reshape(-1)[0])


def _count(path: Path, place: str, value: float) -> int:
    if not 0 <= value < _LARGEST_STEP or value != int(value):
        raise FormatError(path, place, f"wanted a count of steps, got {value}")
    return int(value)

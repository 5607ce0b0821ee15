"""Which parameter an integer of PyTorch's optimizer state means.

The integers count the parameters that the optimizer was given, group after group. Names stand beside them only if it
was given names (`param_names`, torch 2.6). Otherwise the groups say it, if they can have come about in one way only:
one group is `model.parameters()`; two are Hugging Face's, with weight decay and without, told apart by names. Every
shape must agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from porting.checkpoint.torch.tree import TensorRef
from porting.convert.names import listed
from porting.convert.torch_state import Key, TorchState
from porting.errors import UsageError

Shapes = Mapping[str, tuple[int, ...]]

# The scripts of huggingface/transformers (examples, run_glue.py until 4.5x) and google's BERT exclude by substring;
# Trainer.get_decay_parameter_names (5.23) excludes nn.LayerNorm by type and these patterns of the lower-case name.
_TRAINER = re.compile(r"bias|layernorm|layer_norm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
_NO_DECAY: tuple[Callable[[str], bool], ...] = (
    lambda name: _TRAINER.search(name.lower()) is not None,
    lambda name: "bias" in name or "LayerNorm.weight" in name,
    lambda name: name.endswith("bias"),
)

STATE_DICT_ORDER = frozenset({"torch", "torch-legacy"})
"""Formats whose single files hold tensors in the order of the state dict."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of DistributedDataParallel and of torch.compile."""


def module_order(names: Iterable[str], modules: Sequence[str] = ()) -> list[str]:
    """Names in the order of `model.parameters()`: a module's own parameters, then its children, depth first.

    modules: parts of names whose order among their siblings is this one, where it is not that of the names.

    >>> module_order(["q.weight", "k.weight", "q.bias", "k.bias", "scale"], ["k", "q"])
    ['scale', 'k.weight', 'k.bias', 'q.weight', 'q.bias']
    """
    own: list[str] = []
    children: dict[str, list[str]] = {}
    for name in names:
        head, dot, rest = name.partition(".")
        if dot:
            children.setdefault(head, []).append(rest)
        else:
            own.append(name)
    ordered = _registered(own, modules)
    for head in _registered(list(children), modules):
        ordered += [f"{head}.{rest}" for rest in module_order(children[head], modules)]
    return ordered


def _registered(siblings: list[str], modules: Sequence[str]) -> list[str]:
    """Siblings with those that `modules` lists put into its order, the others left where they are."""
    listed_ones = iter(sorted((name for name in siblings if name in modules), key=modules.index))
    return [next(listed_ones) if name in modules else name for name in siblings]


def parameters_of(state: TorchState, order: Sequence[str], shapes: Shapes) -> dict[Key, str | None]:
    """The parameter of every key of the groups; None for one that the checkpoint does not hold.

    order: names of the model's parameters as `model.parameters()` lists them. shapes: by name.
    Raises: UsageError if the keys cannot be told, with the reason.
    """
    keys: list[Key] = [key for group in state.groups for key in group["params"]]
    named = _own_names(state)
    if named is not None:
        prefix = _prefix(state, named, shapes)
        full = [prefix + _unwrapped(name) for name in named]
        found = {key: name if name in shapes else None for key, name in zip(keys, full, strict=True)}
        wrong = _misfits(state, found, shapes)
        if wrong:
            raise UsageError(f"{state.title}: {'; '.join(wrong[:3])}")
        return found
    return {**_by_groups(state, keys, order, shapes)}


def _own_names(state: TorchState) -> list[str] | None:
    """Names that the state itself gives: param_names in all groups, or names instead of integers."""
    names: list[str] = []
    for group in state.groups:
        given = group.get("param_names")
        if given is None and all(isinstance(key, str) for key in group["params"]):
            given = group["params"]
        if not isinstance(given, list) or len(given) != len(group["params"]):
            return None
        names += map(str, given)
    return names if names and len(set(names)) == len(names) else None


def _prefix(state: TorchState, names: Sequence[str], shapes: Shapes) -> str:
    """What stands before the names in the checkpoint (`model.` in a training checkpoint): that which finds most.

    Raises: UsageError if the names are found nowhere, or in several places equally.
    """
    bare = [_unwrapped(name) for name in names]
    tried = {known.removesuffix(bare[0]) for known in shapes if f".{known}".endswith(f".{bare[0]}")} | {""}
    for first in bare[1:]:  # the first name may be one that the checkpoint does not hold
        if len(tried) > 1:
            break
        tried |= {known.removesuffix(first) for known in shapes if f".{known}".endswith(f".{first}")}
    hits = {prefix: sum(prefix + name in shapes for name in bare) for prefix in tried}
    best = [prefix for prefix in sorted(hits) if hits[prefix] == max(hits.values())]
    if not hits[best[0]]:
        raise UsageError(f"{state.title}: none of its parameters is in the model: {listed(names)}")
    if len(best) > 1:
        raise UsageError(f"{state.title}: its parameters are in the model {len(best)} times: {listed(names)}")
    return best[0]


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _by_groups(state: TorchState, keys: Sequence[Key], order: Sequence[str], shapes: Shapes) -> dict[Key, str]:
    hint = "give the optimizer model.named_parameters(), so that its state says param_names"
    if len(keys) != len(order):
        raise UsageError(
            f"{state.title}: has no param_names, and {len(keys)} parameters where the model has {len(order)}: "
            f"which they are cannot be told; {hint}"
        )
    if len(state.groups) > 2:
        raise UsageError(
            f"{state.title}: has no param_names, and {len(state.groups)} groups, which cannot be told apart; {hint}"
        )
    ways = _ways(state, order)
    fitting = [way for way in ways if not _misfits(state, dict(zip(keys, way, strict=True)), shapes)]
    if not fitting:
        tried = dict(zip(keys, ways[0], strict=True)) if ways else {}
        why = (_misfits(state, tried, shapes) or ["its two groups are not those of weight decay by name"])[0]
        raise UsageError(f"{state.title}: has no param_names, and does not fit the model: {why}; {hint}")
    if len(fitting) > 1:
        raise UsageError(
            f"{state.title}: has no param_names, and its groups fit the model in {len(fitting)} ways; {hint}"
        )
    return dict(zip(keys, fitting[0], strict=True))


def _ways(state: TorchState, order: Sequence[str]) -> list[tuple[str, ...]]:
    """Every order of the parameters that the groups can have come from."""
    if len(state.groups) == 1:
        return [tuple(order)]
    sizes = [len(group["params"]) for group in state.groups]
    decays = [state.number(group.get("weight_decay")) for group in state.groups]
    ways: dict[tuple[str, ...], None] = {}
    for excluded in _NO_DECAY:
        decayed = [name for name in order if not excluded(name)]
        spared = [name for name in order if excluded(name)]
        for first, second, turned in ((decayed, spared, False), (spared, decayed, True)):
            contradicts = decays[0] != decays[1] and turned != (decays[0] == 0)
            if [len(first), len(second)] == sizes and not contradicts:
                ways[(*first, *second)] = None
    return list(ways)


def _misfits(state: TorchState, found: Mapping[Key, str | None], shapes: Shapes) -> list[str]:
    """Keys whose moments have another shape than their parameter."""
    wrong = []
    for key, kept in state.state.items():
        name = found.get(key)
        for role, value in kept.items():
            if isinstance(value, TensorRef) and name is not None and role != "step":
                shape = state.entries[value.name].shape
                if shape not in ((), shapes[name]):
                    wrong.append(f"{role} of {key} is {shape}, {name} is {shapes[name]}")
    return wrong

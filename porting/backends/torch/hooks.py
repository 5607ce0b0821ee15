"""Watches any torch.nn.Module: forward hooks on every module that is asked for."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.nn.modules.dropout import _DropoutNd

from porting.backends.protocol import Array
from porting.backends.torch.device import common_switches
from porting.backends.watch import LOSS, Asked, Calls, Facts, Keep, Ran, arguments, leaves, loss_of, root_name
from porting.errors import UsageError
from porting.parity.capture import Section

_MOMENTS: Mapping[str, Section] = {
    "exp_avg": "step.m",
    "momentum_buffer": "step.m",
    "exp_avg_sq": "step.v",
    "square_avg": "step.v",
}
"""Where torch.optim keeps what a capture calls m and v."""


def open_model(model: Any, batch: Any) -> TorchWatched:
    """Hold a module and its batch ready. Raises: UsageError for one whose hooks are not called."""
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{type(model).__name__}: wanted a torch.nn.Module")
    _refuse(model)
    return TorchWatched(model, batch)


def _refuse(model: torch.nn.Module) -> None:
    """Raises: UsageError naming the module that runs as a whole, and what to pass instead."""
    for path, module in model.named_modules(remove_duplicate=False):
        at = path or "the module"
        if hasattr(module, "_orig_mod"):
            raise UsageError(
                f"{at} is compiled by torch.compile, which runs past the hooks: pass the original (module._orig_mod)"
            )
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise UsageError(
                f"{at} was compiled in place: capture before calling .compile(), or copy.deepcopy the original"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(
                f"{at} is a ScriptModule, which calls no hooks: pass what torch.jit.script or trace was given"
            )
        if isinstance(module, torch.nn.DataParallel):
            raise UsageError(f"{at} is DataParallel, whose replicas would mix: pass its .module")


class TorchWatched:
    """A torch module with its batch. See porting.backends.watch.Watched."""

    def __init__(self, model: torch.nn.Module, batch: Any) -> None:
        self._model = model
        first = next(chain(model.parameters(), model.buffers()), None)
        self._device = torch.device("cpu") if first is None else first.device
        self._batch = _placed(batch, self._device)
        paths = [path for path, _ in model.named_modules() if path]
        self._root = root_name(paths)
        self.facts = Facts(
            model=type(model).__name__,
            framework="torch",
            device=str(self._device),
            names=(*paths, self._root),
            versions={"python": platform.python_version(), "torch": torch.__version__},
            switches=common_switches(),
            compute=_compute(model, self._device),
            training=model.training,
            notes=_dropouts(model),
        )

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """The batch by name."""
        return ((path.removeprefix("."), _host(tensor)) for path, tensor in leaves(self._batch, torch.is_tensor))

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Parameters and persistent buffers, as state_dict orders them, tied ones once."""
        seen: set[int] = set()
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            if torch.is_tensor(tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, _host(tensor)

    def run(self, asked: Asked, keep: Keep) -> Ran:
        """One pass forward, one back where gradients or a step are asked for."""
        calls = Calls(keep, torch.is_tensor, _host)
        differentiate = asked.gradients or asked.step is not None
        positional, named = arguments(self._batch)
        with ExitStack() as hooks, torch.set_grad_enabled(differentiate):
            for path, module in self._model.named_modules():
                if (name := path or self._root) in asked.modules:
                    hooks.callback(module.register_forward_hook(_tap(calls, name)).remove)
            output = self._model(*positional, **named)
            if asked.loss is None:
                return calls.ran()
            loss = loss_of(asked.loss, output, torch.is_tensor)
            if callable(asked.loss):
                keep("forward", LOSS, _host(loss))
            del output
        return self._backward(asked, loss, calls) if differentiate else calls.ran()

    def _backward(self, asked: Asked, loss: torch.Tensor, calls: Calls) -> Ran:
        trained = {name: tensor for name, tensor in self._model.named_parameters() if tensor.requires_grad}
        found = torch.autograd.grad(loss.reshape(()), list(trained.values()), allow_unused=True)
        notes = [
            f"{name}: the loss does not reach it; its gradient is written as zeros"
            for name, grad in zip(trained, found, strict=True)
            if grad is None
        ]
        grads = {name: grad for name, grad in zip(trained, found, strict=True) if grad is not None}
        for name in trained if asked.gradients else ():
            grad = grads.get(name)
            calls.keep("gradients", name, _host(torch.zeros_like(trained[name]) if grad is None else grad))
        step = None if asked.step is None else self._step(asked.step, loss, trained, grads, calls.keep)
        return calls.ran(step, notes)

    def _step(
        self, optimizer: Any, loss: torch.Tensor, trained: Mapping[str, Any], grads: Mapping[str, Any], keep: Keep
    ) -> Mapping[str, Any]:
        """One step of the user's optimizer: weights after it, and both moments. The module keeps the new weights."""
        held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        if not held & {id(tensor) for tensor in trained.values()}:
            raise UsageError("step: the optimizer holds none of the module's parameters")
        rates = sorted({float(group["lr"]) for group in optimizer.param_groups})
        squares = sum(float(grad.detach().double().pow(2).sum()) for grad in grads.values())
        before = {name: tensor.grad for name, tensor in trained.items()}
        try:
            for name, tensor in trained.items():
                tensor.grad = grads.get(name)
            optimizer.step()
        finally:
            for name, tensor in trained.items():
                tensor.grad = before[name]
        for name, tensor in trained.items():
            keep("step.weights", name, _host(tensor))
        for key, section in _MOMENTS.items():
            for name, tensor in trained.items():
                moment = optimizer.state.get(tensor, {}).get(key)
                if moment is not None:
                    keep(section, name, _host(moment))
        return {
            "step": 0,
            "loss": float(loss.detach()),
            "lr": rates[0] if len(rates) == 1 else rates,
            "grad_norm": squares**0.5,
            "loss_scale": 1.0,
            "overflow": False,
        }


def _tap(calls: Calls, name: str) -> Any:
    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        calls(name, output)

    return hook


def _placed(value: Any, device: torch.device) -> Any:
    """The batch with its arrays as tensors on the module's device, of the dtype that they have."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value)).to(device)
    if torch.is_tensor(value):
        return value.detach().to(device)
    if isinstance(value, Mapping):
        return {key: _placed(part, device) for key, part in value.items()}
    return type(value)(_placed(part, device) for part in value) if type(value) in (tuple, list) else value


def _host(tensor: torch.Tensor) -> Array:
    """On the host, sharing memory where it can; numpy has bfloat16 through ml_dtypes only."""
    plain = tensor.detach().cpu()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    if plain.dtype is torch.bfloat16:
        return plain.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return plain.resolve_conj().resolve_neg().numpy()


def _compute(model: torch.nn.Module, device: torch.device) -> str:
    """The dtype of autocast where that is on, else of the weights."""
    if torch.is_autocast_enabled(device.type):
        return _word(torch.get_autocast_dtype(device.type))
    tensors = chain(model.parameters(), model.buffers())
    return next((_word(tensor.dtype) for tensor in tensors if tensor.is_floating_point()), "float32")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dropouts(model: torch.nn.Module) -> tuple[str, ...]:
    """A note where two runs cannot be equal."""
    acting = [
        path
        for path, module in model.named_modules()
        if module.training and isinstance(module, _DropoutNd) and module.p
    ]
    if not acting:
        return ()
    return (f"{acting[0]} and {len(acting) - 1} more: dropout acts, so no two runs agree; model.eval() turns it off",)

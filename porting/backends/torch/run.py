"""Runs a port in PyTorch: eager, or compiled by torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from porting.backends import feed
from porting.backends.group import ALONE, Team
from porting.backends.protocol import Array, Batch, Build, Counters, StepResult
from porting.backends.torch.parallel import summed
from porting.backends.torch.recipe import Trained, changed, finite
from porting.backends.training import Training, moments_of
from porting.errors import UsageError, first_line_of
from porting.model.batch import check_batch
from porting.model.recipe import Recipe
from porting.model.spec import Config, ModelSpec
from porting.model.update import Rates, treatments

Tensors = dict[str, torch.Tensor]
Slopes = Sequence[torch.Tensor | None]


def open_session(spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None = None) -> TorchSession:
    """Build a port and hold it ready.

    Raises: UsageError for a device that is not there or a task or recipe that does not fit the model.
    """
    spec.task(build.task)
    return TorchSession(spec, config, build, recipe, _device(build.device))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name}: PyTorch cannot use it: {first_line_of(error)}") from error
    return device


class TorchSession:
    """A port in PyTorch. See porting.backends.protocol.Session."""

    def __init__(
        self, spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None, device: torch.device
    ) -> None:
        self._spec, self._config, self._build, self._device = spec, config, build, device
        torch.manual_seed(build.dropout.seed)
        self._dtype = torch.float64 if build.compute == "float64" else torch.float32
        self._model: torch.nn.Module = spec.port("pytorch").build(config, build).to(device, self._dtype)
        self._named = dict(self._model.named_parameters())
        self._trained = {name: tensor for name, tensor in self._named.items() if tensor.requires_grad}
        self._call: Any = torch.compile(self._model) if build.mode == "graph" else self._model
        self._training = Training(recipe)
        self._team: Team | None = None
        if recipe is not None:
            treated = treatments(recipe, spec, "pytorch", self.trainable)
            self._optimized = Trained.start(list(self._trained.values()), [treated[name] for name in self._trained])

    @property
    def model(self) -> torch.nn.Module:
        """The port itself."""
        return self._model

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tuple(tensor.shape) for name, tensor in self._named.items()}

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of those that are trained."""
        return tuple(self._trained)

    @property
    def compilations(self) -> int:
        """Graphs that torch.compile has made in this process, 0 eagerly."""
        if self._build.mode != "graph":
            return 0
        from torch._dynamo.utils import counters

        return int(counters["stats"]["unique_graphs"])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError."""
        double = self._dtype == torch.float64
        for name, tensor in feed.accepted(f"{self._spec.name} in PyTorch", self.parameters, tensors, double=double):
            self._named[name].copy_(torch.tensor(tensor))

    def weights(self) -> dict[str, Array]:
        """The parameters as they are now, float32 (or float64, if the model is)."""
        return {name: _numpy(tensor) for name, tensor in self._named.items()}

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The task's outputs, the loss where there are labels, and the taps asked for. Raises: UsageError."""
        asked, forced = feed.known_taps(self._spec, taps), feed.replacing(self._spec, given)
        check_batch(self._spec, self._config, self._build, batch)
        self._model.eval()
        with torch.no_grad():
            values = self._call(self._tensors({**batch, **forced}), asked)
        return {name: _numpy(value) for name, value in feed.given(self._spec, asked, values).items()}

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient for every trainable parameter; zero where the loss does not depend on it."""
        loss, found, _ = self._backward(batch, 1.0, {})
        grads = {
            name: _numpy(torch.zeros_like(self._trained[name])) if grad is None else _numpy(grad)
            for name, grad in zip(self._trained, found, strict=True)
        }
        return float(loss), grads

    def step(self, batch: Batch) -> StepResult:
        """One training step by the recipe. Raises: UsageError if the session has none."""
        recipe, dropout = self._training.wanted(), self._build.dropout
        if dropout.mode == "own":
            torch.manual_seed(dropout.seed_of(self._training.steps, self._team.world.rank if self._team else 0))
        apart = recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart"
        gathered = getattr(self._model, "gathered", {}) if apart else {}
        rows = feed.rows(gathered, self.parameters, batch)

        places = [self.trainable.index(name.removeprefix(feed.ROWS)) for name in rows]

        def differentiate(scale: float) -> tuple[torch.Tensor, tuple[Slopes, Slopes]]:
            loss, grads, slopes = self._backward(batch, scale, rows)
            return loss, (grads, slopes)

        def apply(found: tuple[Slopes, Slopes], now: Rates, unscale: float) -> Callable[[], list[float]]:
            gathered = {i: slope for i, slope in zip(places, found[1], strict=True) if slope is not None}
            norms = changed(recipe, now, self._optimized, found[0], gathered, unscale)
            return lambda: [float(norm) for norm in norms.tolist()]

        return self._training.step(
            differentiate, lambda found: bool(finite([g for g in (*found[0], *found[1]) if g is not None])), apply
        )

    def slots(self) -> dict[str, dict[str, Array]]:
        """The optimizer's moments by role and parameter name. Raises: UsageError without a recipe."""
        self._training.wanted()
        return moments_of(self._trained, self._optimized.m, self._optimized.v, _numpy)

    def counters(self) -> Counters:
        """How far it has trained."""
        return self._training.counters

    @torch.no_grad()
    def resume(self, counters: Counters, slots: Mapping[str, Mapping[str, Array]]) -> None:
        """Go on where another session stood. Raises: UsageError, MismatchError."""
        self._training.wanted()
        shapes = {name: self.parameters[name] for name in self._trained}
        found = feed.accepted_moments(
            f"{self._spec.name} in PyTorch", shapes, slots, double=self._dtype == torch.float64
        )
        for role, moments in (("m", self._optimized.m), ("v", self._optimized.v)):
            for moment, value in zip(moments, found[role], strict=True):
                moment.copy_(torch.tensor(value))
        self._training.resume(counters)

    def join(self, team: Team) -> None:
        """Train as one of several from now on; each draws its own numbers where dropout is the framework's."""
        self._team = team

    def _backward(self, batch: Batch, scale: float, extra: Mapping[str, Array]) -> tuple[torch.Tensor, Slopes, Slopes]:
        """The loss, and gradients of the loss times `scale`: of the trained parameters, and of the extra features."""
        check_batch(self._spec, self._config, self._build, batch)
        team, steps = self._team, self._training.steps
        masks = feed.masks(self._spec, self._config, self._build, batch, steps, team.world if team else ALONE)
        shares = team.begin(self, self._spec.task(self._build.task), batch) if team else {}
        probes = {name: tensor.requires_grad_() for name, tensor in self._tensors(extra).items()}
        self._model.train()
        features = {**self._tensors(batch), **self._tensors(masks), **probes}
        values = self._call(features, frozenset(shares) - {"loss"}) if shares else self._call(features)
        loss: torch.Tensor = feed.loss_of(self._spec, self._build, values)
        if shares:
            loss = torch.stack([values[name] * share for name, share in shares.items()]).sum()
        wrt = [*self._trained.values(), *probes.values()]
        grads = torch.autograd.grad(loss if scale == 1 else loss * scale, wrt, allow_unused=True)
        own, slopes = grads[: len(self._trained)], grads[len(self._trained) :]
        return summed(team, loss.detach(), own, slopes) if team else (loss.detach(), own, slopes)

    def _tensors(self, batch: Batch) -> Tensors:
        """Features as tensors; whole numbers as int64, which PyTorch indexes with."""
        return {name: self._tensor(value).to(self._device) for name, value in batch.items()}

    def _tensor(self, value: Array) -> torch.Tensor:
        kind = np.float64 if self._dtype == torch.float64 else np.float32
        whole = np.asarray(value).dtype.kind in "iub"
        return torch.tensor(np.asarray(value, np.int64 if whole else kind))  # copied: a mapped file is not writable


def _numpy(tensor: torch.Tensor) -> Array:
    """A copy on the host; half precision as float32, which holds it exactly."""
    plain = tensor.detach()
    half = plain.dtype in {torch.float16, torch.bfloat16}
    return (plain.float() if half else plain).cpu().numpy().copy()

"""Runs a port in MindSpore: PyNative, or compiled to a graph by mindspore.jit.

MindSpore's mode is one for the process, so a session leaves it at PyNative and compiles what it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops

from porting.backends import feed
from porting.backends.group import ALONE, Team
from porting.backends.mindspore.parallel import factor, summed
from porting.backends.mindspore.recipe import Trained, finite, updater
from porting.backends.protocol import Array, Batch, Build, Counters, StepResult
from porting.backends.training import Training, moments_of
from porting.errors import UsageError, first_line_of
from porting.model.batch import check_batch
from porting.model.recipe import Recipe
from porting.model.spec import Config, ModelSpec
from porting.model.update import Rates, treatments


def open_session(spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None = None) -> MindSporeSession:
    """Build a port and hold it ready.

    Raises: UsageError for a device that is not there or a task or recipe that does not fit the model.
    """
    spec.task(build.task)
    feed.refuse_float64(build, "MindSpore")
    _use(build.device)
    return MindSporeSession(spec, config, build, recipe)


def _use(device: str) -> None:
    """Make a device the process's own. Raises: UsageError."""
    kind, _, index = device.partition(":")
    target = {"npu": "Ascend"}.get(kind, kind.upper() if kind in {"cpu", "gpu"} else kind)
    try:
        if ms.get_context("device_target") != target or index:
            ms.set_device(target, int(index or 0))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"device {device}: MindSpore cannot use it: {first_line_of(error)}") from error
    ms.set_context(mode=ms.PYNATIVE_MODE)


class MindSporeSession:
    """A port in MindSpore. See porting.backends.protocol.Session."""

    def __init__(self, spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None) -> None:
        self._spec, self._config = spec, config
        ms.set_seed(build.dropout.seed)
        self._graph = build.mode == "graph"
        known = _jit_phases()
        self._compiled_before = None if known is None else len(known)
        apart = recipe is not None and recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart"
        self._build = build = replace(build, extra={**build.extra, "rows": True}) if apart else build
        self._model: Any = spec.port("mindspore").build(config, build)
        self._named = {parameter.name: parameter for parameter in self._model.get_parameters()}
        self._trained = {name: parameter for name, parameter in self._named.items() if parameter.requires_grad}
        self._cells: dict[tuple[frozenset[str], tuple[str, ...]], tuple[Any, Any]] = {}
        self._differentiate = self._compiled(self._slopes())
        self._training = Training(recipe)
        self._team: Team | None = None
        if recipe is not None:
            self._prepare(recipe)

    def _prepare(self, recipe: Recipe) -> None:
        """Moments, and the function of one update: of all parameters, or of those that the loss reaches."""
        unused: Collection[str] = getattr(self._model, "unused", ()) if recipe.unused == "kept" else ()
        treated = treatments(recipe, self._spec, "mindspore", self.trainable)
        self._optimized = Trained.start(list(self._trained.values()), [treated[name] for name in self._trained])
        self._reached = [i for i, name in enumerate(self._trained) if name not in unused]
        places = {feed.ROWS + self.trainable[i]: at for at, i in enumerate(self._reached)}
        rows = [places[name] for name in self._model.features if name.startswith(feed.ROWS)]
        # Compiled in either mode, as mindspore.nn compiles its own optimizers.
        self._update = ms.jit(updater(recipe, self._optimized.only(self._reached), rows))
        self._finite = ms.jit(finite)

    @property
    def model(self) -> Any:
        """The port itself."""
        return self._model

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tuple(parameter.shape) for name, parameter in self._named.items()}

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of those that are trained."""
        return tuple(self._trained)

    @property
    def compilations(self) -> int | None:
        """Graphs that mindspore.jit compiled since this session began, 0 in PyNative; None if MindSpore hides it."""
        if not self._graph:
            return 0
        return None if self._compiled_before is None else len(_jit_phases() or ()) - self._compiled_before

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError."""
        for name, tensor in feed.accepted(f"{self._spec.name} in MindSpore", self.parameters, tensors):
            _set(self._named[name], ms.Tensor(tensor))

    def weights(self) -> dict[str, Array]:
        """The parameters as they are now, float32."""
        return {name: _numpy(parameter) for name, parameter in self._named.items()}

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The task's outputs, the loss where there are labels, and the taps asked for. Raises: UsageError."""
        asked, forced = feed.known_taps(self._spec, taps), feed.replacing(self._spec, given)
        check_batch(self._spec, self._config, self._build, batch)
        try:
            values = self._values({**batch, **forced}, asked | set(given or {}))
        except (RuntimeError, ValueError, TypeError):
            # Of a wrong shape MindSpore says that some operator cannot take it; what is wanted a free run shows.
            feed.check_given(self._values(batch, frozenset(given or {})), given or {})
            raise
        feed.check_given(values, given or {})
        return {name: _numpy(value) for name, value in feed.given(self._spec, asked, values).items()}

    def _values(self, batch: Batch, taps: frozenset[str]) -> dict[str, Any]:
        """What the model gives for a batch, None for what it cannot."""
        forced = tuple(sorted(name.removeprefix(feed.GIVEN) for name in batch if name.startswith(feed.GIVEN)))
        cell, call = self._cell(taps, forced)
        cell.set_train(False)
        return dict(zip(cell.outputs, call(*_positions(cell, batch)), strict=True))

    def _cell(self, taps: frozenset[str], given: tuple[str, ...]) -> tuple[Any, Any]:
        """The model that returns these taps and takes these values in the place of taps, and how to call it.

        MindSpore's inputs and outputs are fixed when a cell is built, so every set of them is a cell of its own, with
        this one's parameters in it.
        """
        wanted = taps - set(self._model.outputs)
        own = not (wanted or given)
        if (wanted, given) not in self._cells:
            cell = self._model
            if not own:
                extra = {**self._build.extra, "taps": tuple(sorted(wanted)), "given": given}
                cell = self._spec.port("mindspore").build(self._config, replace(self._build, extra=extra))
            self._cells[wanted, given] = cell, self._compiled(_calling(cell))
        cell, call = self._cells[wanted, given]
        if not own:
            for parameter in cell.get_parameters():
                _set(parameter, self._named[parameter.name])
        return cell, call

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient for every trainable parameter; zero where the loss does not depend on it."""
        loss, found, _ = self._backward(batch, 1.0, {})
        return float(loss), {name: _numpy(grad) for name, grad in zip(self._trained, found, strict=True)}

    def step(self, batch: Batch) -> StepResult:
        """One training step by the recipe. Raises: UsageError if the session has none."""
        self._training.wanted()
        rows = feed.rows(getattr(self._model, "gathered", {}), self.parameters, batch) if self._rows else {}

        def differentiate(scale: float) -> tuple[Any, tuple[Sequence[Any], Sequence[Any]]]:
            loss, grads, slopes = self._backward(batch, scale, rows)
            return loss, (grads, slopes)

        return self._training.step(
            differentiate, lambda found: bool(self._finite(*found[0], *found[1]).asnumpy()), self._apply
        )

    def _apply(self, found: tuple[Sequence[Any], Sequence[Any]], rates: Rates, unscale: float) -> Any:
        """Change the weights; gives the gradients' norms."""
        grads, rows = found
        numbers = ms.Tensor([rates.lr, rates.factor, rates.epsilon, unscale], ms.float32)
        norms = self._update(numbers, *(grads[i] for i in self._reached), *rows)

        def read() -> list[float]:
            norm, *each = norms.asnumpy().tolist()
            known = dict(zip(self._reached, each, strict=True))
            return [norm, *(known.get(i, 0.0) for i in range(len(self._trained)))]

        return read

    def slots(self) -> dict[str, dict[str, Array]]:
        """The optimizer's moments by role and parameter name. Raises: UsageError without a recipe."""
        self._training.wanted()
        return moments_of(self._trained, self._optimized.m, self._optimized.v, _numpy)

    def counters(self) -> Counters:
        """How far it has trained."""
        return self._training.counters

    def resume(self, counters: Counters, slots: Mapping[str, Mapping[str, Array]]) -> None:
        """Go on where another session stood. Raises: UsageError, MismatchError."""
        self._training.wanted()
        shapes = {name: self.parameters[name] for name in self._trained}
        found = feed.accepted_moments(f"{self._spec.name} in MindSpore", shapes, slots)
        for role, moments in (("m", self._optimized.m), ("v", self._optimized.v)):
            for moment, value in zip(moments, found[role], strict=True):
                _set(moment, ms.Tensor(value))
        self._training.resume(counters)

    def join(self, team: Team) -> None:
        """Train as one of several from now on; each draws its own numbers where dropout is the framework's."""
        self._team = team
        ms.set_seed(self._build.dropout.seed + team.world.rank)

    def _backward(
        self, batch: Batch, scale: float, extra: Mapping[str, Array]
    ) -> tuple[Any, Sequence[Any], Sequence[Any]]:
        """The loss, and gradients of the loss times `scale`: of the trained parameters, and of the rows."""
        check_batch(self._spec, self._config, self._build, batch)
        team, steps = self._team, self._training.steps
        masks = feed.masks(self._spec, self._config, self._build, batch, steps, team.world if team else ALONE)
        share = factor(team.begin(self, self._spec.task(self._build.task), batch)) if team else 1.0
        features = _positions(self._model, {**batch, **masks, **extra})
        self._model.set_train(True)
        (_, loss, there), grads = self._differentiate(ms.Tensor(scale * share, ms.float32), *features)
        rows, found = grads if self._rows else ((), grads)
        rows = (rows,) if len(self._rows) == 1 else rows  # one position comes without its tuple
        loss = feed.loss_of(self._spec, self._build, {"loss": loss} if there.asnumpy() else {})
        return summed(team, loss * share, found, rows) if team else (loss, found, rows)

    @property
    def _rows(self) -> tuple[int, ...]:
        """Where the rows stand among the features, behind the scale."""
        return tuple(1 + i for i, name in enumerate(self._model.features) if name.startswith(feed.ROWS))

    def _slopes(self) -> Any:
        model, place = self._model, tuple(self._model.outputs).index("loss")

        def scaled(scale: Any, *features: Any) -> Any:
            loss = model(*features)[place]
            if loss is None:  # what is differentiated must return tensors, so a second one says that there is no loss
                return scale, scale, ops.zeros_like(scale)
            return loss * scale, loss, ops.ones_like(scale)

        return ms.value_and_grad(
            scaled,
            grad_position=self._rows or None,
            weights=ms.ParameterTuple(list(self._trained.values())),
            has_aux=True,
        )

    def _compiled(self, function: Any) -> Any:
        return ms.jit(function) if self._graph else function


def _jit_phases() -> Collection[str] | None:
    """A phase for each graph that mindspore.jit has compiled in this process: a set of no public name, seen in 2.10."""
    known = getattr(ms.common.api, "ms_compile_cache", None)
    return known if isinstance(known, Collection) else None


def _set(parameter: Any, value: Any) -> None:
    """Change a parameter's value where it lies.

    Parameter.set_data gives it another place, which what mindspore.jit compiled before does not see (2.10 on the CPU).
    """
    ops.assign(parameter, value)


def _calling(cell: Any) -> Any:
    """A cell as a function, which is what mindspore.jit compiles beside others."""

    def call(*features: Any) -> Any:
        return cell(*features)

    return call


def _positions(cell: Any, batch: Batch) -> list[Any]:
    """A batch in the order of the cell's features, None for those that are not there."""
    return [_tensor(batch[name]) if name in batch else None for name in cell.features]


def _tensor(value: Array) -> Any:
    """A feature as a tensor, whole numbers as int32."""
    kind = np.int32 if np.asarray(value).dtype.kind in "iub" else np.float32
    return ms.Tensor(np.asarray(value, kind, order="C"))


def _numpy(tensor: Any) -> Array:
    """A copy on the host; half precision as float32, which holds it exactly."""
    half = tensor.dtype in {ms.float16, ms.bfloat16}
    return np.array((tensor.astype(ms.float32) if half else tensor).asnumpy())

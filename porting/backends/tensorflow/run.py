"""Runs a port in TensorFlow: eager, or traced by tf.function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from porting.backends import feed
from porting.backends.protocol import Array, Batch, Build, Counters, StepResult
from porting.backends.tensorflow.recipe import Numbers, Trained, dense, finite, update
from porting.backends.training import Training, moments_of
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting.model.recipe import Recipe
from porting.model.spec import Config, ModelSpec
from porting.model.update import Rates, treatments


def open_session(spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None = None) -> TensorFlowSession:
    """Build a port and hold it ready.

    Raises: UsageError for a device that is not there or a task or recipe that does not fit the model.
    """
    spec.task(build.task)
    feed.refuse_float64(build, "TensorFlow")
    return TensorFlowSession(spec, config, build, recipe, _device(build.device))


def _device(name: str) -> str:
    kind, _, index = name.partition(":")
    full = f"/device:{kind.upper()}:{index or 0}"
    there = [device.name for device in tf.config.list_logical_devices()]
    if full not in there:
        raise UsageError(f"device {name}: TensorFlow has {', '.join(there)}")
    return full


def _plain(name: str) -> str:
    return name.removesuffix(":0")


class TensorFlowSession:
    """A port in TensorFlow. See porting.backends.protocol.Session."""

    def __init__(self, spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None, device: str) -> None:
        self._spec, self._config, self._build, self._device = spec, config, build, device
        tf.random.set_seed(build.dropout.seed)
        with tf.device(device):
            self._model = spec.port("tensorflow").build(config, build)
        self._named = {_plain(variable.name): variable for variable in self._model.variables}
        self._trained = {name: variable for name, variable in self._named.items() if variable.trainable}
        traced: Callable[[Any], Any] = tf.function if build.mode == "graph" else lambda function: function
        self._evaluate, self._differentiate = traced(self._outputs), traced(self._slopes)
        self._training = Training(recipe)
        if recipe is not None:
            treated = treatments(recipe, spec, "tensorflow", self.trainable)
            with tf.device(device):
                self._optimized = Trained.start(list(self._trained.values()), [treated[name] for name in self._trained])
            self._update = traced(lambda grads, numbers: update(recipe, self._optimized, grads, Numbers(*numbers)))

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tuple(variable.shape) for name, variable in self._named.items()}

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of those that are trained."""
        return tuple(self._trained)

    @property
    def compilations(self) -> int:
        """Traces of the training step, 0 eagerly."""
        if self._build.mode != "graph":
            return 0
        return int(self._differentiate.experimental_get_tracing_count())

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError."""
        for name, tensor in feed.accepted(f"{self._spec.name} in TensorFlow", self.parameters, tensors):
            self._named[name].assign(tensor)

    def weights(self) -> dict[str, Array]:
        """The parameters as they are now, float32."""
        return {name: _numpy(variable) for name, variable in self._named.items()}

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The task's outputs, the loss where there are labels, and the taps asked for. Raises: UsageError."""
        asked, forced = feed.known_taps(self._spec, taps), feed.replacing(self._spec, given)
        check_batch(self._spec, self._config, self._build, batch)
        self._model.training = False
        with tf.device(self._device):
            values = self._evaluate(_tensors({**batch, **forced}), tuple(sorted(asked)))
        return {name: _numpy(value) for name, value in feed.given(self._spec, asked, values).items()}

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient for every trainable parameter; zero where the loss does not depend on it."""
        loss, found = self._backward(batch, 1.0)
        grads = {
            name: np.zeros(tuple(variable.shape), np.float32) if grad is None else _numpy(dense(grad))
            for (name, variable), grad in zip(self._trained.items(), found, strict=True)
        }
        return float(loss), grads

    def step(self, batch: Batch) -> StepResult:
        """One training step by the recipe. Raises: UsageError if the session has none."""
        self._training.wanted()
        return self._training.step(
            lambda scale: self._backward(batch, scale), lambda grads: bool(finite(grads)), self._apply
        )

    def _apply(self, grads: Sequence[Any], rates: Rates, unscale: float) -> Any:
        """Change the weights; gives the gradients' norms."""
        numbers = tuple(tf.constant(n, tf.float32) for n in (rates.lr, rates.factor, rates.epsilon, unscale))
        with tf.device(self._device):
            norms = self._update(grads, numbers)
        return lambda: norms.numpy().tolist()

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
        found = feed.accepted_moments(f"{self._spec.name} in TensorFlow", shapes, slots)
        for role, moments in (("m", self._optimized.m), ("v", self._optimized.v)):
            for moment, value in zip(moments, found[role], strict=True):
                moment.assign(value)
        self._training.resume(counters)

    def _backward(self, batch: Batch, scale: float) -> tuple[Any, Sequence[Any]]:
        """The loss, and the gradients of the loss times `scale`: Tensor, IndexedSlices or None."""
        check_batch(self._spec, self._config, self._build, batch)
        masks = feed.masks(self._spec, self._config, self._build, batch, self._training.steps)
        self._model.training = True
        with tf.device(self._device):
            loss, grads = self._differentiate(_tensors({**batch, **masks}), tf.constant(scale, tf.float32))
        return feed.loss_of(self._spec, self._build, {"loss": loss}), grads

    def _outputs(self, batch: Mapping[str, Any], taps: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name, value in self._model(batch, frozenset(taps)).items() if value is not None}

    def _slopes(self, batch: Mapping[str, Any], scale: Any) -> tuple[Any, Sequence[Any]]:
        with tf.GradientTape() as tape:
            loss = self._model(batch).get("loss")
            if loss is None:
                return None, ()
            scaled = loss * scale
        return loss, tape.gradient(scaled, list(self._trained.values()))


def _tensors(batch: Batch) -> dict[str, Any]:
    """Features as tensors, whole numbers as int32."""
    return {
        name: tf.constant(value, tf.int32 if np.asarray(value).dtype.kind in "iub" else tf.float32)
        for name, value in batch.items()
    }


def _numpy(tensor: Any) -> Array:
    """A copy on the host; half precision as float32, which holds it exactly."""
    plain = tf.convert_to_tensor(tensor)
    return np.array((tf.cast(plain, tf.float32) if plain.dtype.is_floating else plain).numpy())

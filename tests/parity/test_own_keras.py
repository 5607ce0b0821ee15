"""Capture of any Keras 3 model, and the whole way from a torch model to its port, whose images are channels last."""

from __future__ import annotations

import numpy as np
import pytest

import porting
from porting.errors import UsageError

tf = pytest.importorskip("tensorflow")
pytest.importorskip("torch")
import keras  # noqa: E402
from keras import layers  # noqa: E402
from mapping_support import apart, first_apart, judged, pairs  # noqa: E402
from own_models import images, keras_net, torch_net, torch_weights  # noqa: E402

from porting.parity.mapping import leave_out  # noqa: E402

pytestmark = [pytest.mark.tensorflow, pytest.mark.torch]

LIMIT = 1e-5
"""Relative distance of tensors that float32 arithmetic in another order of sums may bring about: 4e-7 was seen."""

LAST = (0, 3, 1, 2)
ROWS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def source(tmp_path):
    """The torch model's capture, its weights, and its capture in float64."""
    model = torch_net()
    weights = {name: array.copy() for name, array in torch_weights(model).items()}
    options = {"loss": lambda output: output["logits"].square().mean(), "gradients": True}
    path = porting.capture(model, images(), output=tmp_path / "torch", **options)
    truth = porting.capture(model.double(), images().astype(np.float64), output=tmp_path / "truth", **options)
    return porting.read_capture(path), weights, porting.read_capture(truth)


def captured(model, folder):
    loss = lambda output: tf.reduce_mean(output["logits"] ** 2)  # noqa: E731
    batch = np.ascontiguousarray(images().transpose(0, 2, 3, 1))
    return porting.read_capture(porting.capture(model, batch, output=folder, loss=loss, gradients=True))


def settled(mapping):
    """What a person decides: Keras fuses three activations, and flattens in another order."""
    mapping = leave_out(mapping, "taps", "source", ["conv", "hidden", "square"], "Keras applies the activation within")
    return leave_out(mapping, "taps", "target", ["second", "flat"], "no module in torch gives it")


class TestTheWholeWay:
    def test_a_right_port_agrees_everywhere(self, source, tmp_path):
        source, weights, truth = source
        target = captured(keras_net(weights), tmp_path / "keras")
        assert target.manifest.weights == source.manifest.weights
        assert target.manifest.batch == source.manifest.batch
        mapping = porting.propose_mapping(source, target)
        found = pairs(mapping.taps)
        assert found.pop("stem", None) or found.pop("stem.2")  # the list's output is that of its last module
        assert found == {
            "input": ("input", LAST), "stem.0": ("first", LAST), "stem.1": ("bn", LAST), "act": ("mlp_0", ()),
            "act#2": ("mlp_1", ()), "head": ("mlp_2", ()), "output.logits": ("output.logits", ()),
            "output.features": ("output.features", ()), "loss": ("loss", ()),
        }  # fmt: skip
        (doubt,) = mapping.taps.ambiguous
        assert (doubt.source, doubt.targets) == ("conv", ("second",))  # before the activation, and after it
        weights = pairs(mapping.weights)
        assert weights["conv.weight"] == ("second/kernel", (3, 2, 0, 1))
        assert weights["square.weight"] == ("mlp_1/kernel", (1, 0))
        split = next(pair for pair in mapping.weights.pairs if pair.source == "hidden.weight")
        assert (split.target, split.split, split.axes) == ("mlp_0/kernel", (3, 3, 6, 16), (3, 2, 0, 1))
        assert not any(mapping.weights.unmatched.values())
        mapping = settled(mapping)
        assert mapping.settled
        found = apart(source, target, mapping)
        assert max(found.values()) < LIMIT
        assert all(off == 0 for (section, _), off in found.items() if section == "weights")
        assert ("gradients", "hidden.weight") in found
        found = judged(source, target, mapping, truth)
        assert found.passed
        assert "left out: square: Keras applies the activation within" in found.source.notes

    def test_what_is_open_does_not_pass(self, source, tmp_path):
        source, weights, truth = source
        target = captured(keras_net(weights), tmp_path / "keras")
        found = judged(source, target, porting.propose_mapping(source, target), truth)
        assert found.overall.state == "UNMATCHED"
        assert any(note.startswith("open in the mapping: conv = second: values differ") for note in found.source.notes)

    def test_an_epsilon_is_found_at_its_norm(self, source, tmp_path):
        source, weights, truth = source
        target = captured(keras_net(weights, epsilon=1e-2), tmp_path / "keras")
        mapping = porting.propose_mapping(source, target)
        assert first_apart(source, target, mapping) == "stem.1"
        failed = [one for one in judged(source, target, mapping, truth).overall.findings if one.state == "FAIL"]
        assert (failed[0].level, failed[0].what) == ("L2", "stem.1")

    def test_a_square_kernel_left_untransposed_is_found(self, source, tmp_path):
        source, weights, _ = source
        target = captured(keras_net(weights, transposed=False), tmp_path / "keras")
        mapping = porting.propose_mapping(source, target)
        assert first_apart(source, target, mapping) in {"square", "act#2"}  # of which Keras has only one
        (doubt,) = mapping.weights.ambiguous
        assert doubt.source == "square.weight"
        assert "untransposed" in doubt.reason


class TestTaps:
    def test_functional_and_nested(self, tmp_path):
        inner = keras.Sequential([layers.Dense(3, name="one"), layers.Dense(3, name="two")], name="inner")
        first, second = keras.Input((4,), name="a"), keras.Input((4,), name="b")
        shared = layers.Dense(3, name="shared")
        merged = layers.Add(name="sum")([inner(first), shared(first), shared(second)])
        model = keras.Model([first, second], merged)
        capture = porting.read_capture(porting.capture(model, (ROWS, ROWS + 1), output=tmp_path / "c"))
        taps = capture.manifest.taps
        assert set(taps) == {
            "input.0", "input.1", "inner/one", "inner/two", "inner", "shared", "shared#2", "sum", "output",
        }  # fmt: skip
        assert taps.index("inner/one") < taps.index("inner/two") < taps.index("inner")
        np.testing.assert_array_equal(capture.tensor("forward", "output"), model([ROWS, ROWS + 1]).numpy())

    def test_a_functional_model_by_its_inputs_names(self, tmp_path):
        first, second = keras.Input((4,), name="a"), keras.Input((4,), name="b")
        model = keras.Model({"a": first, "b": second}, layers.Subtract(name="off")([first, second]))
        capture = porting.read_capture(porting.capture(model, {"a": ROWS, "b": ROWS + 1}, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input.a", "input.b", "off", "output")

    def test_subclassed_and_not_built(self, tmp_path):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = [layers.Dense(3, name="p0"), layers.Dense(3, name="p1")]
                self.norm = layers.LayerNormalization(name="norm")

            def call(self, x, y):
                for part in self.parts:
                    x = part(x)
                return {"x": self.norm(x), "y": y}

        capture = porting.read_capture(porting.capture(Own(), (ROWS, ROWS), output=tmp_path / "c"))
        assert capture.manifest.taps == ("input.0", "input.1", "p0", "p1", "norm", "output.x", "output.y")
        assert len(capture.section("weights")) == 6

    def test_gradients_are_tensorflow_s_own(self, tmp_path):
        model = keras.Sequential([layers.Embedding(5, 4), layers.Dense(2)])
        batch = np.array([[0, 1, 1]])
        path = porting.capture(model, batch, output=tmp_path / "c", loss=tf.reduce_sum, gradients=True)
        capture = porting.read_capture(path)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch))
        for variable, grad in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            np.testing.assert_array_equal(
                capture.tensor("gradients", variable.path), tf.convert_to_tensor(grad).numpy()
            )

    def test_the_layers_are_left_as_they_were(self, tmp_path):
        model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
        porting.capture(model, ROWS, output=tmp_path / "c")
        assert not any("call" in vars(layer) for layer in (model, *model.layers))


class TestFaults:
    def test_graphs_are_refused(self, tmp_path):
        dense = keras.Sequential([layers.Dense(2)])
        cases = [
            (tf.function(lambda x: x), "a raw TensorFlow function or module has no layers to hook"),
            (tf.function(dense).get_concrete_function(tf.TensorSpec((None, 4))), "a raw TensorFlow function"),
            (tf.Module(), "a raw TensorFlow function or module"),
        ]
        for model, says in cases:
            with pytest.raises(UsageError, match=says):
                porting.capture(model, ROWS, output=tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_a_tf_function_within_runs_eagerly(self, tmp_path):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense, self.own = layers.Dense(2, name="dense"), layers.Dense(2, name="own")
                self.own.call = tf.function(self.own.call)

            @tf.function
            def through(self, x):
                return self.dense(x)

            def call(self, x):
                return self.own(self.through(x))

        model = Own()
        wanted = model(ROWS)  # traced before, so that a graph is there
        capture = porting.read_capture(porting.capture(model, ROWS, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input", "dense", "own", "output")
        np.testing.assert_allclose(capture.tensor("forward", "output"), wanted.numpy(), rtol=1e-6)
        assert not tf.config.functions_run_eagerly()
        assert hasattr(model.own.call, "get_concrete_function")

    def test_a_layer_that_never_ran_is_crashed(self, tmp_path):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.idle, self.dense = layers.Dense(2, name="idle"), layers.Dense(2, name="dense")

            def call(self, x):
                return self.dense(x)

        path = porting.capture(Own(), ROWS, output=tmp_path / "c", taps=["idle", "dense"])
        manifest = porting.read_capture(path).manifest
        assert manifest.state == "crashed"
        assert manifest.reason.startswith("idle: its hook was never called")

    def test_an_exception_goes_on(self, tmp_path):
        class Broken(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(2, name="dense")

            def call(self, x):
                self.dense(x)
                raise ArithmeticError("out of luck")

        with pytest.raises(ArithmeticError, match="out of luck"):
            porting.capture(Broken(), ROWS, output=tmp_path / "c")
        manifest = porting.read_capture(tmp_path / "c").manifest
        assert manifest.state == "crashed"
        assert manifest.reason.startswith("ArithmeticError after dense: ")

    def test_a_step_is_torch_s(self, tmp_path):
        with pytest.raises(UsageError, match="takes no optimizer's step"):
            porting.capture(
                keras.Sequential([layers.Dense(2)]), ROWS, output=tmp_path / "c", loss=tf.reduce_sum, step=object()
            )

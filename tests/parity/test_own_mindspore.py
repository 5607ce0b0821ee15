"""Capture of any MindSpore Cell in PyNative mode, and the whole way from a torch model to its port."""

from __future__ import annotations

import numpy as np
import pytest

import porting
from porting.errors import UsageError

ms = pytest.importorskip("mindspore")
pytest.importorskip("torch")
from mapping_support import apart, first_apart, judged, pairs  # noqa: E402
from mindspore import nn, ops  # noqa: E402
from own_models import images, mindspore_net, torch_net, torch_weights  # noqa: E402

from porting.parity.mapping import leave_out  # noqa: E402

pytestmark = [pytest.mark.mindspore, pytest.mark.torch]

LIMIT = 1e-5
"""Relative distance of tensors that float32 arithmetic in another order of sums may bring about: 4e-7 was seen."""


@pytest.fixture
def pynative():
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)


@pytest.fixture
def source(tmp_path):
    """The torch model's capture, its weights, and its capture in float64."""
    model = torch_net()
    weights = {name: array.copy() for name, array in torch_weights(model).items()}
    options = {"loss": lambda output: output["logits"].square().mean(), "gradients": True}
    path = porting.capture(model, images(), output=tmp_path / "torch", **options)
    truth = porting.capture(model.double(), images().astype(np.float64), output=tmp_path / "truth", **options)
    return porting.read_capture(path), weights, porting.read_capture(truth)


def captured(model, folder, **options):
    loss = lambda output: (output[0] ** 2).mean()  # noqa: E731
    return porting.read_capture(porting.capture(model, images(), output=folder, loss=loss, gradients=True, **options))


@pytest.mark.usefixtures("pynative")
class TestTheWholeWay:
    def test_a_right_port_agrees_everywhere(self, source, tmp_path):
        source, weights, truth = source
        target = captured(mindspore_net(weights), tmp_path / "ms")
        assert target.manifest.weights == source.manifest.weights
        assert target.manifest.batch == source.manifest.batch
        mapping = porting.propose_mapping(source, target)
        assert pairs(mapping.taps) == {
            name: (other, ())
            for name, other in {
                "input": "input", "stem.0": "conv1", "stem.1": "norm1", "conv": "conv2", "hidden": "dense1",
                "act": "tanh", "square": "dense2", "act#2": "tanh#2", "head": "dense3", "output.logits": "output.0",
                "output.features": "output.1", "loss": "loss",
            }.items()
        }  # fmt: skip
        assert set(mapping.taps.unmatched["source"]) == {"stem.2", "stem"}  # the port calls ops.relu, which is no Cell
        mapping = leave_out(mapping, "taps", "source", ["stem", "stem.2"], "the port calls a function")
        assert mapping.settled
        assert judged(source, target, mapping, truth).passed
        found = apart(source, target, mapping)
        assert {section for section, _ in found} == {"weights", "forward", "gradients"}
        assert max(found.values()) < LIMIT
        assert all(off == 0 for (section, _), off in found.items() if section == "weights")

    @pytest.mark.parametrize(
        ("mistake", "tap"), [({"epsilon": 1e-2}, "stem.1"), ({"slope": 1.01}, "square")], ids=["epsilon", "slope"]
    )
    def test_a_planted_mistake_is_found_at_its_tap(self, source, tmp_path, mistake, tap):
        source, weights, truth = source
        target = captured(mindspore_net(weights, **mistake), tmp_path / "ms")
        mapping = porting.propose_mapping(source, target)
        assert first_apart(source, target, mapping) == tap
        failed = [one for one in judged(source, target, mapping, truth).overall.findings if one.state == "FAIL"]
        assert (failed[0].level, failed[0].what) == ("L2", tap)
        found = apart(source, target, mapping)
        assert all(off == 0 for (section, _), off in found.items() if section == "weights")


@pytest.mark.usefixtures("pynative")
class TestTaps:
    def test_names_and_calls(self, tmp_path):
        model = mindspore_net(torch_weights(torch_net()))
        capture = porting.read_capture(porting.capture(model, images(), output=tmp_path / "c"))
        assert capture.manifest.taps == (
            "input", "conv1", "norm1", "conv2", "dense1", "tanh", "dense2", "tanh#2", "dense3", "output.0", "output.1",
        )  # fmt: skip
        assert (capture.manifest.framework, capture.manifest.device) == ("mindspore", "cpu")
        assert not any(cell._forward_hook for _, cell in model.cells_and_names())

    def test_gradients_are_mindspore_s_own(self, tmp_path):
        model = mindspore_net(torch_weights(torch_net()))
        capture = captured(model, tmp_path / "c")
        wanted = ms.grad(lambda x: (model(x)[0] ** 2).mean(), None, model.trainable_params())(ms.Tensor(images()))
        for parameter, grad in zip(model.trainable_params(), wanted, strict=True):
            np.testing.assert_array_equal(capture.tensor("gradients", parameter.name), grad.asnumpy())

    def test_batches_by_name(self, tmp_path):
        class Sum(nn.Cell):
            def construct(self, a, b):
                return {"sum": a + b}

        capture = porting.read_capture(porting.capture(Sum(), {"b": images(1), "a": images(2)}, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input.b", "input.a", "output.sum")

    def test_bfloat16(self, tmp_path):
        class Halved(nn.Cell):
            def construct(self, x):
                return x.astype(ms.bfloat16)

        capture = porting.read_capture(porting.capture(Halved(), images(), output=tmp_path / "c"))
        assert capture.summaries["forward", "output"].dtype == "bfloat16"


@pytest.mark.usefixtures("pynative")
class TestFaults:
    def test_graph_mode_is_refused(self, tmp_path):
        ms.set_context(mode=ms.GRAPH_MODE)
        with pytest.raises(UsageError, match=r"GRAPH_MODE, which calls no hooks: declare the taps as outputs"):
            porting.capture(nn.Dense(2, 2), np.ones((1, 2), np.float32), output=tmp_path / "c")

    def test_a_compiled_cell_is_refused(self, tmp_path):
        class Compiled(nn.Cell):
            @ms.jit
            def construct(self, x):
                return x + 1

        cases = [
            (Compiled(), "the cell is compiled to a graph"),
            (nn.SequentialCell(nn.Dense(2, 2), Compiled()), "1 is compiled to a graph"),
            (ms.jit(nn.Dense(2, 2)), "pass the Cell it was made from"),
        ]
        for model, says in cases:
            with pytest.raises(UsageError, match=says):
                porting.capture(model, np.ones((1, 2), np.float32), output=tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_a_cell_that_never_ran_is_crashed(self, tmp_path):
        class Idle(nn.Cell):
            def __init__(self):
                super().__init__()
                self.idle = nn.Dense(2, 2)

            def construct(self, x):
                return x

        path = porting.capture(Idle(), np.ones((1, 2), np.float32), output=tmp_path / "c", taps=["idle"])
        manifest = porting.read_capture(path).manifest
        assert manifest.state == "crashed"
        assert manifest.reason.startswith("idle: its hook was never called")

    def test_an_exception_goes_on(self, tmp_path):
        class Broken(nn.Cell):
            def __init__(self):
                super().__init__()
                self.act = nn.ReLU()

            def construct(self, x):
                ops.relu(self.act(x))
                raise ArithmeticError("out of luck")

        with pytest.raises(ArithmeticError, match="out of luck"):
            porting.capture(Broken(), np.ones((1, 2), np.float32), output=tmp_path / "c")
        capture = porting.read_capture(tmp_path / "c")
        assert capture.manifest.reason == "ArithmeticError after act: out of luck"

    def test_a_step_is_torch_s(self, tmp_path):
        with pytest.raises(UsageError, match="takes no optimizer's step"):
            porting.capture(
                nn.Dense(2, 2),
                np.ones((1, 2), np.float32),
                output=tmp_path / "c",
                loss=lambda y: y.sum(),
                step=object(),
            )

    def test_dropout_that_acts_is_noted(self, tmp_path):
        model = nn.SequentialCell(nn.Dense(2, 2), nn.Dropout(p=0.5))
        model.set_train(True)
        path = porting.capture(model, np.ones((1, 2), np.float32), output=tmp_path / "c")
        assert "dropout acts" in porting.read_capture(path).manifest.notes[0]

"""Capture of any torch module: what its hooks give, and what is refused."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import porting
from porting.errors import UsageError

torch = pytest.importorskip("torch")
from own_models import images, torch_net  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch


@dataclass
class Output:
    loss: object
    states: tuple


class Nested(nn.Module):
    """Outputs of every kind, a module called twice, one that is never called, a list."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.act = nn.ReLU()
        self.recurrent = nn.LSTM(4, 3, batch_first=True)
        self.idle = nn.Linear(4, 4)

    def forward(self, x, scale=None):
        for layer in self.layers:
            x = self.act(layer(x))
        if scale is not None:
            x = x * scale
        x, (h, c) = self.recurrent(x)
        return Output(x.square().mean(), ({"h": h, "none": None}, c))


@pytest.fixture
def nested():
    torch.manual_seed(0)
    return Nested()


BATCH = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)


def read(path):
    return porting.read_capture(path)


class TestTaps:
    def test_names_are_paths_in_the_order_of_execution(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c"))
        assert capture.manifest.taps == (
            "input", "layers.0", "act", "layers.1", "act#2", "recurrent.0", "recurrent.1.0", "recurrent.1.1",
            "output.loss", "output.states.0.h", "output.states.1",
        )  # fmt: skip
        assert capture.manifest.state == "whole"
        assert capture.manifest.notes == ("never ran: idle, layers",)

    def test_values_are_those_of_the_modules(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c"))
        with torch.no_grad():
            first = nested.layers[0](torch.from_numpy(BATCH))
            second = nested.layers[1](first.relu())
        np.testing.assert_array_equal(capture.tensor("forward", "layers.0"), first.numpy())
        np.testing.assert_array_equal(capture.tensor("forward", "act"), first.relu().numpy())
        np.testing.assert_array_equal(capture.tensor("forward", "act#2"), second.relu().numpy())

    def test_weights_are_those_of_state_dict(self, tmp_path):
        model = torch_net()
        capture = read(porting.capture(model, images(), output=tmp_path / "c"))
        assert list(capture.section("weights")) == list(model.state_dict())
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(capture.tensor("weights", name), tensor.numpy())

    def test_tied_weights_stand_there_once(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        capture = read(porting.capture(model, BATCH, output=tmp_path / "c", loss=torch.sum, gradients=True))
        assert list(capture.section("weights")) == ["0.weight", "0.bias", "1.bias"]
        assert list(capture.section("gradients")) == ["0.weight", "0.bias", "1.bias"]

    @pytest.mark.parametrize(
        ("batch", "names"),
        [
            ({"x": BATCH, "scale": np.float32([2.0])}, ["input.x", "input.scale"]),
            ((BATCH, np.float32([2.0])), ["input.0", "input.1"]),
            (torch.from_numpy(BATCH), ["input"]),
        ],
        ids=["by name", "by position", "a tensor"],
    )
    def test_batches(self, nested, batch, names, tmp_path):
        capture = read(porting.capture(nested, batch, output=tmp_path / "c"))
        assert [name for name in capture.manifest.taps if name.startswith("input")] == names

    def test_only_what_is_asked_for(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c", taps=["layers.*", "act"]))
        assert capture.manifest.taps == ("input", "layers.0", "act", "layers.1", "act#2")

    def test_an_inplace_activation_does_not_change_what_was_captured(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        capture = read(porting.capture(model, BATCH, output=tmp_path / "c"))
        assert capture.tensor("forward", "0").min() < 0 <= capture.tensor("forward", "1").min()

    def test_half_precision_keeps_its_dtype(self, tmp_path):
        model = nn.Linear(4, 4).bfloat16()
        capture = read(porting.capture(model, torch.ones(2, 4, dtype=torch.bfloat16), output=tmp_path / "c"))
        assert capture.summaries["forward", "output"].dtype == "bfloat16"
        expected = model(torch.ones(2, 4, dtype=torch.bfloat16)).float().detach().numpy()
        np.testing.assert_array_equal(capture.tensor("forward", "output").astype(np.float32), expected)

    def test_complex_tensors_are_two(self, tmp_path):
        class Fourier(nn.Module):
            def forward(self, x):
                return torch.fft.fft(x)

        capture = read(porting.capture(Fourier(), BATCH, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input", "output.real", "output.imag")

    def test_summaries_only(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c", whole=False))
        assert capture.tensor("forward", "layers.0") is None
        assert capture.summaries["forward", "layers.0"].sketch

    def test_the_batch_and_the_weights_have_one_hash_in_any_layout(self, tmp_path):
        model = nn.Identity()
        model.kernel = nn.Parameter(torch.arange(6.0).reshape(2, 3))
        one = read(porting.capture(model, BATCH, output=tmp_path / "a")).manifest
        model.kernel = nn.Parameter(torch.arange(6.0).reshape(2, 3).T.contiguous())
        two = read(porting.capture(model, BATCH.transpose(0, 2, 1).copy(), output=tmp_path / "b")).manifest
        other = read(porting.capture(model, BATCH + 1, output=tmp_path / "c")).manifest
        assert (one.batch, one.weights) == (two.batch, two.weights)
        assert other.batch != one.batch


class TestGradients:
    def test_they_are_torch_s_own(self, tmp_path):
        model = torch_net()
        loss = lambda output: output["logits"].square().mean()  # noqa: E731
        capture = read(porting.capture(model, images(), output=tmp_path / "c", loss=loss, gradients=True))
        loss(model(torch.from_numpy(images()))).backward()
        assert list(capture.section("gradients")) == [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            np.testing.assert_array_equal(capture.tensor("gradients", name), parameter.grad.numpy())

    def test_a_loss_by_name(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c", loss="loss", gradients=True))
        assert capture.summaries["gradients", "layers.0.weight"].l2 > 0
        assert capture.summaries["gradients", "idle.weight"].l2 == 0
        assert any(note.startswith("idle.weight: the loss does not reach it") for note in capture.manifest.notes)

    @pytest.mark.parametrize(
        ("loss", "says"),
        [
            ("lost", "the model's output has loss, states.0.h, states.1"),
            (lambda output: output.states[1], "wanted one number, got (1, 2, 3)"),
            (lambda _: 3.0, "wanted one number, got float"),
        ],
    )
    def test_a_loss_that_is_none(self, nested, tmp_path, loss, says):
        with pytest.raises(UsageError) as caught:
            porting.capture(nested, BATCH, output=tmp_path / "c", loss=loss, gradients=True)
        assert says in str(caught.value)
        assert not (tmp_path / "c").exists()

    def test_gradients_want_a_loss(self, nested, tmp_path):
        with pytest.raises(UsageError, match="want a loss"):
            porting.capture(nested, BATCH, output=tmp_path / "c", gradients=True)

    def test_a_step_is_torch_s_own(self, tmp_path):
        model, twin = torch_net(), torch_net()
        optimizer, other = (torch.optim.AdamW(each.parameters(), lr=0.1) for each in (model, twin))
        loss = lambda output: output["logits"].square().mean()  # noqa: E731
        capture = read(porting.capture(model, images(), output=tmp_path / "c", loss=loss, step=optimizer))
        loss(twin(torch.from_numpy(images()))).backward()
        other.step()
        for name, parameter in twin.named_parameters():
            np.testing.assert_array_equal(capture.tensor("step.weights", name), parameter.detach().numpy())
            np.testing.assert_array_equal(capture.tensor("step.m", name), other.state[parameter]["exp_avg"].numpy())
            np.testing.assert_array_equal(capture.tensor("step.v", name), other.state[parameter]["exp_avg_sq"].numpy())
        (step,) = capture.steps
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 1e9)
        assert step["lr"] == 0.1
        assert step["grad_norm"] == pytest.approx(float(norm), rel=1e-6)  # summed in float64 here, in float32 there
        assert not capture.section("gradients")

    def test_an_optimizer_of_something_else(self, nested, tmp_path):
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
        with pytest.raises(UsageError, match="holds none of the module's parameters"):
            porting.capture(nested, BATCH, output=tmp_path / "c", loss="loss", step=optimizer)


class TestFaults:
    def test_an_exception_goes_on_and_what_was_captured_stays(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 5), nn.Linear(4, 4))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            porting.capture(model, BATCH, output=tmp_path / "c")
        capture = read(tmp_path / "c")
        assert capture.manifest.state == "crashed"
        assert capture.manifest.reason.startswith("RuntimeError after 0: mat1 and mat2 shapes")
        assert list(capture.section("forward")) == ["input", "0"]
        assert not model[0]._forward_hooks

    def test_a_module_that_never_ran_is_crashed(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c", taps=["idle", "act"]))
        assert capture.manifest.state == "crashed"
        assert capture.manifest.reason.startswith("idle: its hook was never called")
        assert "act#2" in capture.manifest.taps

    def test_a_pattern_of_which_some_ran_is_whole(self, nested, tmp_path):
        capture = read(porting.capture(nested, BATCH, output=tmp_path / "c", taps=["[il]*"]))
        assert capture.manifest.state == "whole"
        assert "never ran: idle, layers" in capture.manifest.notes

    def test_a_tap_that_there_is_not(self, nested, tmp_path):
        with pytest.raises(UsageError, match=r"no module layer\.0; there are layers\.0"):
            porting.capture(nested, BATCH, output=tmp_path / "c", taps=["layer.0"])
        with pytest.raises(UsageError, match="no module is named"):
            porting.capture(nested, BATCH, output=tmp_path / "c", taps=[])

    def test_an_old_capture_is_kept(self, nested, tmp_path):
        porting.capture(nested, BATCH, output=tmp_path / "c")
        with pytest.raises(UsageError):
            porting.capture(nested, BATCH, output=tmp_path / "c")
        porting.capture(nested, BATCH, output=tmp_path / "c", overwrite=True)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_what_no_hook_is_called_in_is_refused(self, tmp_path):
        linear = nn.Linear(4, 4)
        inside = nn.Sequential(torch.jit.trace(linear, torch.ones(1, 4)))
        compiled = nn.Linear(4, 4)
        compiled.compile()
        cases = [
            (torch.compile(linear), "the module is compiled by torch.compile"),
            (nn.Sequential(torch.compile(linear)), "0 is compiled by torch.compile"),
            (inside, "0 is a ScriptModule"),
            (compiled, "was compiled in place"),
            (nn.DataParallel(linear), "pass its .module"),
            (linear.forward, "torch.nn.Module"),
            (object(), "builtins.object: wanted a torch.nn.Module"),
        ]
        for module, says in cases:
            with pytest.raises(UsageError, match=says.replace(".", r"\.")):
                porting.capture(module, BATCH, output=tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_dropout_that_acts_is_noted(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
        assert "dropout acts" in read(porting.capture(model, BATCH, output=tmp_path / "a")).manifest.notes[0]
        assert read(porting.capture(model.eval(), BATCH, output=tmp_path / "b")).manifest.notes == ()


class TestManners:
    def test_the_module_is_left_as_it_was(self, nested, tmp_path):
        nested.layers[0].weight.grad = kept = torch.ones(4, 4)
        before = {name: tensor.clone() for name, tensor in nested.state_dict().items()}
        porting.capture(nested, BATCH, output=tmp_path / "c", loss="loss", gradients=True)
        assert nested.training
        assert nested.layers[0].weight.grad is kept
        assert nested.layers[1].weight.grad is None
        assert not any(module._forward_hooks for module in nested.modules())
        assert all(torch.equal(before[name], tensor) for name, tensor in nested.state_dict().items())

    def test_tensors_are_let_go(self, tmp_path):
        alive, most = weakref.WeakSet(), []

        class Counted(nn.Module):
            def forward(self, x):
                y = x + 1
                alive.add(y)
                gc.collect()
                most.append(len(alive))
                return y

        porting.capture(nn.Sequential(*[Counted() for _ in range(30)]), BATCH, output=tmp_path / "c")
        assert max(most) <= 3  # the input, the output, and what the loop of Sequential holds

    def test_no_other_framework_is_imported(self, tmp_path):
        code = (
            "import sys, numpy, torch, porting\n"
            f"porting.capture(torch.nn.Linear(2, 2), numpy.ones((1, 2), 'float32'), output={str(tmp_path / 'c')!r})\n"
            "print(sorted({'tensorflow', 'keras', 'mindspore', 'onnx', 'onnxruntime'} & set(sys.modules)))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

"""The emulated NPU: its rounding against numpy's, in products of both passes, and what it refuses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from toy_port import spec as toy

from porting.backends.names import OPTIONS, BackendName
from porting.errors import UsageError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402, N812 - after the skip; its usual name

from porting.backends.torch import emulate  # noqa: E402 - after the skip
from porting.backends.torch.emulate import Emulation  # noqa: E402 - likewise

ALL = [Emulation(cube, overflow) for cube in OPTIONS["cube"] for overflow in OPTIONS["overflow"]]
LARGEST = {"float16": 65504.0, "bfloat16": float(ml_dtypes.finfo("bfloat16").max), "hf32": float.fromhex("0x1.ffep127")}


@np.errstate(invalid="ignore", over="ignore")
def rounded(values, emulation):
    """float32 as the cube takes it, computed in another way than the kit does: by scaling in float64."""
    values = np.asarray(values, np.float32)
    if emulation.cube == "hf32":
        _, exponent = np.frexp(np.float64(values))
        step = np.maximum(exponent - 12, -149 + 12)
        found = np.ldexp(np.rint(np.ldexp(np.float64(values), -step)), step).astype(np.float32)
        found = np.where(np.isinf(values), values, found)
    else:
        found = values.astype(np.float16 if emulation.cube == "float16" else ml_dtypes.bfloat16).astype(np.float32)
    if emulation.overflow == "saturate":
        found = np.where(np.isnan(found), 0, np.clip(found, -LARGEST[emulation.cube], LARGEST[emulation.cube]))
    return found.astype(np.float32)


def through(emulation, values):
    """What the cube makes of operands: a product with one."""
    with emulation.active():
        return (torch.from_numpy(np.array(values, np.float32)).view(-1, 1) @ torch.ones(1, 1)).view(-1).numpy()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_operands_are_rounded_as_numpy_rounds_them(emulation):
    random = np.random.default_rng(0)
    scales = np.ldexp(1.0, random.integers(-149, 127, 200_000))
    values = (random.normal(0, 1, 200_000) * scales).astype(np.float32)
    np.testing.assert_array_equal(through(emulation, values), rounded(values, emulation))


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_ties_ends_and_what_is_not_finite(emulation):
    kept = {"float16": 10, "hf32": 11, "bfloat16": 7}[emulation.cube]
    ties = [1 + (2 * i + 1) * 2.0 ** -(kept + 1) for i in range(8)]
    ends = [65504, 65519.99, 65520, 1e30, float(np.finfo(np.float32).max), 6e-8, 2.0**-149, 0.0, -0.0, np.inf, np.nan]
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(np.float32)  # NaNs of all kinds
    values = np.concatenate([np.float32(ties), np.float32(ends), -np.float32(ends), bits])
    found, wanted = through(emulation, values), rounded(values, emulation)
    np.testing.assert_array_equal(found, wanted)
    if emulation.overflow == "infnan":
        assert np.isnan(found[-4:]).all()
    else:
        assert np.isfinite(found).all()


CASES = {
    "mm": lambda a, b, _: a @ b,
    "addmm": lambda a, b, c: torch.addmm(c, a, b, beta=0.5, alpha=2),
    "addmm_": lambda a, b, c: c.clone().addmm_(a, b, beta=0.5, alpha=2),
    "mm out": lambda a, b, c: torch.mm(a, b, out=torch.empty_like(c)),
    "linear": lambda a, b, c: F.linear(a, b.T, c[0]),
    "linear of three axes": lambda a, b, c: F.linear(a[None], b.T, c[0])[0],
    "matmul": lambda a, b, _: torch.matmul(a[None, None], b)[0, 0],
    "einsum": lambda a, b, _: torch.einsum("ik,kj->ij", a, b),
    "bmm": lambda a, b, _: torch.bmm(a[None], b[None])[0],
    "baddbmm": lambda a, b, c: torch.baddbmm(c[None], a[None], b[None], beta=0.5, alpha=2)[0],
    "addbmm": lambda a, b, c: torch.addbmm(c, a[None], b[None], beta=0.5, alpha=2),
    "mv": lambda a, b, _: torch.stack([a @ b[:, i] for i in range(b.shape[1])], 1),
    "addmv": lambda a, b, c: torch.stack([torch.addmv(c[:, i], a, b[:, i]) for i in range(b.shape[1])], 1),
    "conv1d": lambda a, b, _: F.conv1d(a.T[None], b.T[..., None])[0].T,
    "conv2d": lambda a, b, _: F.conv2d(a.T[None, :, :, None], b.T[..., None, None])[0, :, :, 0].T,
}
SCALED = ("addmm", "addmm_", "baddbmm", "addbmm")
BIASED = {"linear": 0, "linear of three axes": 0, "addmv": None}


def wanted_of(case, a, b, c):
    product = a.astype(np.float64) @ b.astype(np.float64)
    if case in SCALED:
        return 0.5 * c + 2 * product
    if case in BIASED:
        return product + (c if BIASED[case] is None else c[0])
    return product


@pytest.mark.parametrize("emulation", ALL, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_every_product_rounds_its_operands_and_nothing_else(case, emulation):
    a, b, c = noise(7, 24), noise(24, 5, seed=1), noise(7, 5, seed=2)
    with emulation.active(), torch.no_grad():
        found = CASES[case](*map(torch.from_numpy, (a, b, c))).numpy()
    wanted = wanted_of(case, rounded(a, emulation), rounded(b, emulation), c)
    # Sums of 24 products in float32: 24 roundings of 6e-8, of terms of about 1. Rounding operands moves them by 1e-3.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
    assert np.abs(wanted - wanted_of(case, a, b, c)).max() > 1e-4


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_the_backward_pass_rounds_gradients_and_saved_operands(emulation):
    a, b, slope = noise(7, 24), noise(24, 5, seed=1), noise(7, 5, seed=2)
    left, right = (torch.from_numpy(x).requires_grad_() for x in (a, b))
    with emulation.active():
        found = torch.autograd.grad(left @ right, (left, right), torch.from_numpy(slope))
    near = {"rtol": 0, "atol": 3e-6}
    np.testing.assert_allclose(found[0], rounded(slope, emulation) @ rounded(b, emulation).T, **near)
    np.testing.assert_allclose(found[1], rounded(a, emulation).T @ rounded(slope, emulation), **near)


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_the_backward_pass_of_a_convolution(emulation):
    a, b = noise(2, 4, 9), noise(3, 4, 3, seed=1)

    def gradients(left, right):
        left, right = (torch.from_numpy(x).requires_grad_() for x in (left, right))
        found = F.conv1d(left, right)
        return torch.autograd.grad(found, (left, right), torch.ones_like(found))

    with emulation.active():
        found = gradients(a, b)
    for mine, its in zip(found, gradients(rounded(a, emulation), rounded(b, emulation)), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=3e-6)


def test_small_gradients_vanish_in_float16_and_not_in_hf32():
    left, right = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2)
    slope = torch.full((2, 2), 1e-8)
    with Emulation("float16").active():
        assert torch.autograd.grad(left @ right, left, slope)[0].abs().max() == 0
    with Emulation("hf32").active():
        assert torch.autograd.grad(left @ right, left, slope)[0].min() > 1.9e-8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cube", OPTIONS["cube"])
def test_half_operands_enter_as_they_are_and_are_summed_in_float32(dtype, cube):
    a, b = (torch.from_numpy(noise(4, 600, seed=i)).to(dtype) for i in range(2))
    with Emulation(cube).active():
        found = a @ b.T
    assert found.dtype == dtype
    torch.testing.assert_close(found, (a.double() @ b.double().T).to(dtype), rtol=float(torch.finfo(dtype).eps), atol=0)


def test_float16_saturates_or_overflows_in_every_operator():
    big, bad = torch.tensor([[300.0]]).half(), torch.tensor([-1.0]).half()
    twelve = torch.tensor([12.0]).half()
    with Emulation("float16", "saturate").active():
        assert (big @ big).item() == 65504
        assert (big * -big).item() == -65504
        assert torch.exp(twelve).item() == 65504  # the example of hiascend.com, INF_NAN_MODE_ENABLE
        assert torch.sqrt(bad).item() == 0  # likewise
        assert big.clone().mul_(big).item() == 65504
        assert torch.full((2,), -float("inf")).half().tolist() == [-65504, -65504]
    with Emulation("float16", "infnan").active():
        assert (big @ big).isinf().item()
        assert (big * -big).isinf().item()
        assert torch.sqrt(bad).isnan().item()


def test_float32_masks_of_infinity_stay_as_they_are():
    with Emulation("float16", "saturate").active():
        masked = torch.zeros(2, 2).masked_fill(torch.eye(2, dtype=torch.bool), -float("inf"))
        assert masked.isinf().sum() == 2
        assert masked.softmax(-1).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_fused_attention_is_taken_apart(emulation):
    query, key, value = (torch.from_numpy(noise(2, 2, 5, 8, seed=i)).requires_grad_() for i in range(3))

    def gradients(attend):
        with emulation.active():
            found = attend()
            return found, *torch.autograd.grad(found.sum(), (query, key, value))

    def explicit():
        half = 8**-0.25  # PyTorch's math kernel scales both by the root
        return ((query * half) @ (key * half).transpose(-1, -2)).softmax(-1) @ value

    fused = gradients(lambda: F.scaled_dot_product_attention(query, key, value))
    torch.testing.assert_close(fused, gradients(explicit), rtol=0, atol=2e-6)
    assert (fused[0] - F.scaled_dot_product_attention(query, key, value)).abs().max() > 1e-5


def test_a_fused_encoder_layer_and_inference_mode_are_taken_apart():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    given = torch.from_numpy(noise(2, 5, 8))
    plain = layer(given).detach()
    with Emulation().active():
        wanted = layer(given).detach()
        with torch.no_grad():
            slow = layer(given)
        with torch.inference_mode():
            inferred = layer(given)
    assert torch.equal(slow, wanted)
    assert torch.equal(inferred, wanted)
    assert (wanted - plain).abs().max() > 1e-5
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.equal(layer(given).detach(), plain)  # and nothing is emulated afterwards


REFUSED = {
    "mkldnn_rnn_layer": lambda: torch.nn.LSTM(4, 4)(torch.ones(2, 1, 4)),
    "aten.dot": lambda: torch.dot(torch.ones(3), torch.ones(3)),
    "aten._trilinear": lambda: torch.nn.Bilinear(2, 2, 2)(torch.ones(1, 2), torch.ones(1, 2)),
    "aten._cdist_forward": lambda: torch.cdist(torch.ones(2, 2), torch.ones(2, 2)),
    "aten._int_mm": lambda: torch._int_mm(*(torch.ones(32, 32, dtype=torch.int8) for _ in range(2))),
    "aten._linalg_solve_ex": lambda: torch.linalg.solve(torch.eye(2), torch.ones(2)),
    "has no torch.float64 in its cube": lambda: torch.ones(2, 2).double() @ torch.ones(2, 2).double(),
    "writes its sum in place": lambda: torch.ones(2, 2).half().addmm_(torch.ones(2, 2).half(), torch.ones(2, 2).half()),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode], ids=["grad", "inference"])
def test_what_is_not_covered_is_refused_by_name(name, mode):
    with pytest.raises(UsageError, match=name), Emulation().active(), mode():
        REFUSED[name]()


def test_an_operator_of_an_extension_is_refused_forward_and_backward():
    with torch.library._scoped_library("kit_test", "DEF") as library:
        library.define("product(Tensor a, Tensor b) -> Tensor")
        library.impl("product", lambda a, b: a @ b, "CPU")

        class Product(torch.autograd.Function):
            @staticmethod
            def forward(_ctx, a):
                return a * 2

            @staticmethod
            def backward(_ctx, slope):
                return torch.ops.kit_test.product(slope, slope)

        with pytest.raises(UsageError, match=r"kit_test\.product"), Emulation().active():
            torch.ops.kit_test.product(torch.ones(2, 2), torch.ones(2, 2))
        with pytest.raises(UsageError, match=r"kit_test\.product"), Emulation().active():
            Product.apply(torch.ones(2, 2, requires_grad=True)).sum().backward()


def test_every_operator_of_this_pytorch_that_sounds_like_a_product_is_covered_or_refused():
    class Named:
        def __init__(self, name):
            self.name = lambda: name

    names = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")}
    sounding = ("mm", "matmul", "conv", "attention", "linear", "gemm", "dot", "lstm", "gru", "rnn", "einsum")
    plain = {name for name in names if emulate._operands(Named(name)) is None}
    missed = {
        name
        for name in plain
        for sound in sounding
        if any(part.rstrip("0123456789d").endswith(sound) for part in name.removeprefix("aten::").split("_"))
    }
    excused = {name for name in missed if "upsample" in name or "_thnn_fused" in name}
    assert len(plain) > 1000
    assert missed - excused == set()
    assert {name.removeprefix("aten::") for name in names} >= set(emulate.OPERANDS)


def test_whole_numbers_are_multiplied_as_they_are():
    with Emulation().active():
        assert (torch.tensor([[70001]]) @ torch.tensor([[3]])).item() == 210003


@pytest.mark.parametrize("emulation", ALL, ids=str)
def test_a_session_evaluates_differentiates_and_trains_on_it(emulation):
    from porting.backends.protocol import Build
    from porting.backends.torch.run import open_session
    from porting.model import recipes

    def run(recipe):
        session = open_session(toy.TOY, toy.ToyConfig(), Build("classify", labels=toy.LABELS), recipe)
        session.load(toy.weights("hf"))
        batch = toy.batch()
        taps, (loss, grads) = session.forward(batch, ("layer.1.output",)), session.gradients(batch)
        result = session.step(batch)
        return {**taps, "loss": np.float32(loss), **grads}, result, session.weights()

    recipe = recipes.bert_finetune(peak=1e-3, steps=10, warmup=0)
    plain, _, _ = run(recipe)
    with emulation.active():
        found, result, weights = run(recipe)
    assert np.isfinite(result.loss)
    assert np.isfinite(result.grad_norm)
    assert any((weights[name] != value).any() for name, value in toy.weights("hf").items())
    for name, value in plain.items():
        scale = np.abs(value).max()
        # A few products deep: 2**-8 is one rounding of bfloat16, the coarsest.
        assert np.abs(found[name] - value).max() <= 2.0**-5 * scale, name
    assert np.abs(found["logits"] - plain["logits"]).max() > 0
    assert np.abs(found["classifier.weight"] - plain["classifier.weight"]).max() > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, within torch.compile
def test_a_compiled_model_is_emulated_too():
    model, given = torch.nn.Linear(16, 16), torch.from_numpy(noise(4, 16))
    compiled = torch.compile(model)
    compiled(given)
    with Emulation().active():
        assert torch.equal(compiled(given), model(given))


@pytest.mark.parametrize(
    ("text", "emulation"),
    [("", Emulation()), ("hf32", Emulation("hf32")), ("infnan bfloat16", Emulation("bfloat16", "infnan"))],
)
def test_an_emulation_is_parsed_from_words(text, emulation):
    assert Emulation.parse(text) == emulation
    assert Emulation.parse(str(emulation)) == emulation


@pytest.mark.parametrize("text", ["fp16", "float16 bfloat16", "float16 float16", "saturate!"])
def test_words_that_are_none_are_refused(text):
    with pytest.raises(
        UsageError, match="wanted one each of cube: float16, hf32, bfloat16; overflow: saturate, infnan"
    ):
        Emulation.parse(text)


def test_the_options_of_a_backend_are_an_emulation():
    assert Emulation(**dict(BackendName.parse("npu,cube=hf32,overflow=infnan").options)) == Emulation("hf32", "infnan")
    assert (Emulation().cube, Emulation().overflow) == tuple(values[0] for values in OPTIONS.values())

"""PyTorch's optimizer state: integers turned into names, and training that goes on from what was written."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.convert.torch_parameters import module_order
from porting.convert.verify import verify
from porting.errors import FormatError, MismatchError, UsageError

torch = pytest.importorskip("torch")

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 21,
    "max_position_embeddings": 9,
}
SPARED = ("bias", "LayerNorm")

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def classifier(transformers):
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).eval()


@pytest.fixture
def model(classifier):
    return copy.deepcopy(classifier)


def train(model, optimizer, steps=3, seed=1):
    """Steps with random gradients; what a gradient comes from does not matter to an optimizer."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def grouped(model, *, names=False, order=lambda pairs: pairs):
    """Hugging Face's two groups."""
    pairs = order(list(model.named_parameters()))
    decayed = [pair for pair in pairs if not any(word in pair[0] for word in SPARED)]
    spared = [pair for pair in pairs if any(word in pair[0] for word in SPARED)]
    take = (lambda line: line) if names else (lambda line: [parameter for _, parameter in line])
    return torch.optim.AdamW(
        [{"params": take(decayed), "weight_decay": 0.1}, {"params": take(spared), "weight_decay": 0.0}], lr=1e-2
    )


def save(path, model, optimizer, **more):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, **more}, path)
    return path


def moments(model, optimizer):
    """Moments by the name of their parameter, from torch itself."""
    return {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}


def assert_carried(out, model, optimizer):
    """The converted slots are those of torch, found through the ledger."""
    read_back = read(out)
    ledger = json.loads((out.parent / (out.name + ".port.json")).read_text())
    of = {line["sources"][0].removeprefix("model."): line["target"] for line in ledger["tensors"] if not line["slot"]}
    want = moments(model, optimizer)
    assert len(want) == len(of)
    for name, state in want.items():
        for prefix, key in (("exp_avg.", "exp_avg"), ("exp_avg_sq.", "exp_avg_sq")):
            np.testing.assert_array_equal(read_back[prefix + of[name]].read(), state[key].numpy())


def whole(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def named(model):
    return torch.optim.AdamW(model.named_parameters(), lr=1e-2)


def shuffled(model):
    pairs = list(model.named_parameters())
    return torch.optim.AdamW([pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))], lr=1e-2)


def named_groups(model):
    return grouped(model, names=True, order=lambda pairs: pairs[::-1])


def spared_first(model):
    optimizer = grouped(model)
    optimizer.param_groups.reverse()
    return optimizer


def by_suffix(model):
    """A script that spares nothing but biases."""
    parts: tuple[list, list] = ([], [])
    for name, parameter in model.named_parameters():
        parts[name.endswith("bias")].append(parameter)
    return torch.optim.AdamW(
        [{"params": parts[0], "weight_decay": 0.1}, {"params": parts[1], "weight_decay": 0.0}], lr=1e-2
    )


@pytest.mark.parametrize("make", [whole, named, shuffled, grouped, named_groups, spared_first, by_suffix])
def test_integers_find_their_parameters(make, model, tmp_path):
    optimizer = make(model)
    train(model, optimizer)
    source = save(tmp_path / "training.pt", model, optimizer)
    ledger = convert(source, tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    assert_carried(tmp_path / "out.ckpt", model, optimizer)
    assert read(tmp_path / "out.ckpt")["state_step"].read() == 3
    assert verify(tmp_path / "out.ckpt.port.json").problems == ()
    dropped = {line["name"]: line["reason"] for line in ledger.dropped}
    assert dropped["epoch"] == "state of a training loop, no weight"
    assert "here 1e-08" in dropped["param_groups.0.eps"]


@pytest.mark.parametrize("make", [whole, named, grouped, named_groups])
def test_there_and_back_through_mindspore(make, model, tmp_path):
    optimizer = make(model)
    train(model, optimizer)
    save(tmp_path / "training.pt", model, optimizer)
    convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    convert(tmp_path / "out.ckpt", tmp_path / "back.pt", to="hf", with_optimizer=True)
    saved = torch.load(tmp_path / "back.pt")
    (group,) = saved["optimizer"]["param_groups"]
    assert group["param_names"] == [name for name, _ in model.named_parameters()]
    for name, state in moments(model, optimizer).items():
        got = saved["optimizer"]["state"][group["param_names"].index(name)]
        assert all(torch.equal(got[key], state[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
        assert torch.equal(saved["model"][name], model.state_dict()[name])


@pytest.mark.parametrize("make", [whole, named, grouped])
@pytest.mark.parametrize("like", [False, True])
def test_training_goes_on(make, like, model, tmp_path):
    """A step from the converted checkpoint equals the step of the optimizer that went on."""
    optimizer = make(model)
    train(model, optimizer)
    save(tmp_path / "training.pt", model, optimizer)
    torch.save(model.state_dict(), tmp_path / "like.bin")
    convert(
        tmp_path / "training.pt",
        tmp_path / "out.pt",
        to="hf",
        with_optimizer=True,
        like=tmp_path / "like.bin" if like else None,
    )
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    again = make(other)
    saved = torch.load(tmp_path / "out.pt")
    other.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    train(model, optimizer, 1, seed=9)
    train(other, again, 1, seed=9)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_training_goes_on_from_tensorflow(transformers, tmp_path):
    """AdamW over named_parameters takes golden adam_m and adam_v; its step is that of the formula."""
    convert(GOLDEN / "bert_a1/finetuned.ckpt", tmp_path / "out.pt", to="hf", with_optimizer=True)
    saved = torch.load(tmp_path / "out.pt")
    sizes = json.loads((GOLDEN / "bert_a1/bert_config.json").read_text())
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, num_labels=3))
    model.load_state_dict(saved["model"])
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=1.0)
    optimizer.load_state_dict(saved["optimizer"])
    (group,) = optimizer.param_groups
    assert group["lr"] == 0
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-6, 0.01)
    group["lr"] = 1e-3
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    kernel = "bert/encoder/layer_0/intermediate/dense/kernel"
    source = read(GOLDEN / "bert_a1/finetuned.ckpt")
    weight, m, v = (source[kernel + slot].read().T.astype(np.float64) for slot in ("", "/adam_m", "/adam_v"))
    train(model, optimizer, 1)
    gradient = model.get_parameter(name).grad.numpy().astype(np.float64)
    step = int(source["global_step"].read()) + 1
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6)
    np.testing.assert_allclose(
        model.get_parameter(name).detach(), weight * (1 - 1e-5) - 1e-3 * update, rtol=2e-5, atol=1e-7
    )


@pytest.mark.parametrize("weights", ["bin", "safetensors"])
@pytest.mark.parametrize("make", [whole, grouped, named])
def test_a_file_of_the_optimizer_beside_the_model(weights, make, model, tmp_path):
    optimizer = make(model)
    train(model, optimizer)
    source = tmp_path / f"model.{weights}"
    if weights == "bin":
        torch.save(model.state_dict(), source)
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), source)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    ledger = convert(source, tmp_path / "out.ckpt", to="modelzoo", optimizer=tmp_path / "optimizer.pt")
    assert_carried(tmp_path / "out.ckpt", model, optimizer)
    assert {line["name"] for line in ledger.source.files} == {source.name, "optimizer.pt"}
    assert verify(tmp_path / "out.ckpt.port.json").problems == ()
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    assert any("optimizer.pt:state.0.exp_avg" in line for line in verify(tmp_path / "out.ckpt.port.json").problems)


@pytest.fixture
def refuse(model, tmp_path):
    """Convert a training checkpoint and return the refusal."""

    def run(optimizer, **more):
        train(model, optimizer)
        source = save(tmp_path / "training.pt", model, optimizer, **more)
        with pytest.raises(UsageError) as caught:
            convert(source, tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
        assert not (tmp_path / "out.ckpt").exists()
        return str(caught.value)

    return run


def test_another_order_is_refused(refuse, model):
    message = refuse(torch.optim.AdamW(list(model.parameters())[::-1]))
    assert "training.pt: optimizer: has no param_names, and does not fit the model: exp_avg of 0" in message
    assert "named_parameters" in message


def test_frozen_parameters_are_refused(refuse, model):
    message = refuse(torch.optim.AdamW(list(model.parameters())[1:]))
    assert "40 parameters where the model has 41" in message


def test_three_groups_are_refused(refuse, model):
    parameters = list(model.parameters())
    groups = [{"params": parameters[i::3]} for i in range(3)]
    assert "3 groups, which cannot be told apart" in refuse(torch.optim.AdamW(groups))


def test_other_groups_are_refused(refuse, model):
    parameters = list(model.parameters())
    assert "are not those of weight decay" in refuse(
        torch.optim.AdamW([{"params": parameters[:5]}, {"params": parameters[5:]}])
    )


def test_two_optimizers_are_refused(refuse, model):
    optimizer = named(model)
    assert "holds 2 optimizers: optimizer, other" in refuse(optimizer, other=optimizer.state_dict())


def test_other_optimizers_are_refused(refuse, model):
    assert "holds momentum_buffer; known is AdamW" in refuse(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def test_an_optimizer_that_took_no_step_is_refused(model, tmp_path):
    save(tmp_path / "training.pt", model, named(model))
    with pytest.raises(UsageError, match="it has taken no step"):
        convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)


def test_state_of_another_model_is_refused(model, tmp_path):
    other = torch.nn.Sequential(torch.nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(other.named_parameters())
    train(other, optimizer)
    save(tmp_path / "training.pt", model, optimizer)
    with pytest.raises(UsageError, match=r"none of its parameters is in the model: 0\.weight, 0\.bias"):
        convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)


def test_names_that_fit_everywhere_are_refused(model, tmp_path):
    other = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(other.named_parameters())
    train(other, optimizer)
    save(tmp_path / "training.pt", model, optimizer)
    with pytest.raises(UsageError, match=r"its parameters are in the model \d+ times: weight, bias"):
        convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)


def test_the_optimizer_alone_is_no_model(model, tmp_path):
    optimizer = named(model)
    train(model, optimizer)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(MismatchError, match="no family fits"):
        convert(tmp_path / "optimizer.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)


def test_weights_given_as_the_optimizer(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "model.bin")
    with pytest.raises(FormatError, match="wanted one optimizer with state and param_groups, got none"):
        convert(tmp_path / "model.bin", tmp_path / "out.ckpt", to="modelzoo", optimizer=tmp_path / "model.bin")


@pytest.mark.parametrize(
    "state",
    [
        {"state": {0: 1}, "param_groups": [{"params": [0]}]},
        {"state": {}, "param_groups": [{"params": 3}]},
        {"state": {}, "param_groups": [4]},
        {"state": {}, "param_groups": [{"params": [0, 0]}]},
        {"state": {7: {}}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"step": torch.tensor(-3.0)}}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"step": torch.tensor(float("nan"))}}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"step": "x"}}, "param_groups": [{"params": [0], "param_names": ["classifier.bias"]}]},
        {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"params": [0], "param_names": [7]}]},
        {
            "state": {0: {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(2)}},
            "param_groups": [{"params": [0], "param_names": ["classifier.bias"]}],
        },
        {
            "state": {0: {"exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2), "step": -1}},
            "param_groups": [{"params": [0], "param_names": ["classifier.bias"]}],
        },
    ],
)
def test_damaged_states(state, model, tmp_path):
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "training.pt")
    with pytest.raises((FormatError, UsageError)):
        convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)


def test_names_instead_of_integers(model, tmp_path):
    """torch.distributed and FSDP key the state by names."""
    optimizer = named(model)
    train(model, optimizer)
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    names = dict(zip(group["params"], group.pop("param_names"), strict=True))
    state["state"] = {f"module.{names[key]}": value for key, value in state["state"].items()}
    group["params"] = [f"module.{names[key]}" for key in group["params"]]
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [state]}, tmp_path / "training.ckpt")
    convert(tmp_path / "training.ckpt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    slots = read(tmp_path / "out.ckpt")
    found = [
        name for name in slots if name.startswith("exp_avg.") and name.endswith("embedding_lookup.embedding_table")
    ]
    want = moments(model, optimizer)["bert.embeddings.word_embeddings.weight"]["exp_avg"]
    np.testing.assert_array_equal(slots[found[0]].read(), want.numpy())


def test_a_step_in_the_group_and_no_bias_correction(model, tmp_path):
    """As apex counts, and as transformers' AdamW said that it does not correct."""
    optimizer = named(model)
    train(model, optimizer)
    state = optimizer.state_dict()
    for kept in state["state"].values():
        del kept["step"]
    state["param_groups"][0] |= {"step": 5, "correct_bias": False}
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "training.pt")
    convert(tmp_path / "training.pt", tmp_path / "out", to="google", with_optimizer=True)
    out = read(tmp_path / "out")
    assert out["global_step"].read() == 5
    assert "bert/pooler/dense/kernel/adam_m" in out
    assert "beta1_power" not in out


def test_powers_from_steps_and_betas(model, tmp_path):
    optimizer = torch.optim.AdamW(model.named_parameters(), betas=(0.8, 0.95))
    train(model, optimizer, 4)
    save(tmp_path / "training.pt", model, optimizer)
    ledger = convert(tmp_path / "training.pt", tmp_path / "out", to="google", with_optimizer=True)
    out = read(tmp_path / "out")
    assert out["beta1_power"].read() == pytest.approx(0.8**5)
    assert out["beta2_power"].read() == pytest.approx(0.95**5)
    assert out["global_step"].read() == 4
    assert any("adds epsilon to that of the corrected one" in note for note in ledger.notes)


def test_parameters_with_steps_of_their_own(model, tmp_path):
    optimizer = named(model)
    train(model, optimizer)
    for parameter in model.parameters():
        parameter.grad = None
    model.classifier.bias.grad = torch.ones(2)
    optimizer.step()
    save(tmp_path / "training.pt", model, optimizer)
    ledger = convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    (line,) = [line for line in ledger.dropped if line["name"].startswith("step of")]
    assert line["reason"] == "4, where AdamW has one for all: 3"
    convert(tmp_path / "training.pt", tmp_path / "out.pt", to="hf", with_optimizer=True)
    steps = [kept["step"].item() for kept in torch.load(tmp_path / "out.pt")["optimizer"]["state"].values()]
    assert sorted(set(steps)) == [3, 4]


def test_amsgrad(model, tmp_path):
    optimizer = torch.optim.AdamW(model.named_parameters(), amsgrad=True)
    train(model, optimizer)
    save(tmp_path / "training.pt", model, optimizer)
    convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    convert(tmp_path / "out.ckpt", tmp_path / "back.pt", to="hf", with_optimizer=True)
    again = torch.optim.AdamW(model.named_parameters())
    again.load_state_dict(torch.load(tmp_path / "back.pt")["optimizer"])
    assert again.param_groups[0]["amsgrad"]
    for parameter in model.parameters():
        assert torch.equal(again.state[parameter]["max_exp_avg_sq"], optimizer.state[parameter]["max_exp_avg_sq"])


@pytest.mark.parametrize("names", [True, False])
def test_a_tied_decoder(names, transformers, tmp_path):
    """The decoder is the embedding: one parameter, one pair of slots, whatever the state dict lists."""
    model = transformers.BertForPreTraining(transformers.BertConfig(**SIZES))
    optimizer = named(model) if names else whole(model)
    train(model, optimizer)
    source = save(tmp_path / "training.pt", model, optimizer)
    assert "cls.predictions.decoder.weight" in model.state_dict()
    convert(source, tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    assert_carried(tmp_path / "out.ckpt", model, optimizer)
    convert(tmp_path / "out.ckpt", tmp_path / "back.pt", to="hf", with_optimizer=True)
    saved = torch.load(tmp_path / "back.pt")["optimizer"]
    assert saved["param_groups"][0]["param_names"] == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("make", [named, grouped])
def test_fused_projections(make, transformers, tmp_path):
    """fairseq's in_proj_weight holds three parameters: their slots are stacked, and taken apart again."""
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SIZES, type_vocab_size=1))
    torch.nn.init.zeros_(model.roberta.embeddings.token_type_embeddings.weight)
    optimizer = make(model)
    train(model, optimizer)
    torch.nn.init.zeros_(model.roberta.embeddings.token_type_embeddings.weight)
    source = tmp_path / "checkpoint_best.pt"
    torch.save({"model": model.state_dict(), "last_optimizer_state": optimizer.state_dict()}, source)
    convert(source, tmp_path / "out.pt", to="fairseq_fused", with_optimizer=True)
    saved = torch.load(tmp_path / "out.pt")["optimizer"]
    names = [name for group in saved["param_groups"] for name in group["param_names"]]
    fused = saved["state"][
        next(i for i, name in enumerate(names) if name.endswith("layers.1.self_attn.in_proj_weight"))
    ]
    own = moments(model, optimizer)
    parts = [own[f"roberta.encoder.layer.1.attention.self.{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(fused["exp_avg"], torch.cat([part["exp_avg"] for part in parts]))
    assert not any(name.endswith("lm_head.weight") for name in names)
    assert [group["weight_decay"] for group in saved["param_groups"]] == [
        g["weight_decay"] for g in optimizer.param_groups
    ]
    convert(tmp_path / "out.pt", tmp_path / "back.pt", to="hf", with_optimizer=True)
    back = torch.load(tmp_path / "back.pt")["optimizer"]
    names = [name for group in back["param_groups"] for name in group["param_names"]]
    spared = "roberta.embeddings.token_type_embeddings.weight"
    assert set(names) == set(own)
    for key, kept in back["state"].items():
        assert names[key] != spared
        assert torch.equal(kept["exp_avg_sq"], own[names[key]]["exp_avg_sq"])
    assert len(back["state"]) == len(own) - 1


def test_a_rate_goes_to_mindspore(model, tmp_path):
    optimizer = named(model)
    train(model, optimizer)
    state = optimizer.state_dict()
    state["param_groups"][0]["correct_bias"] = False
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "training.pt")
    convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    assert read(tmp_path / "out.ckpt")["learning_rate"].read() == np.float32(1e-2)
    state["param_groups"][0]["lr"] = "high"
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "training.pt")
    convert(tmp_path / "training.pt", tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True, overwrite=True)
    assert "learning_rate" not in read(tmp_path / "out.ckpt")


def test_without_the_option_the_state_is_named(model, tmp_path):
    optimizer = named(model)
    train(model, optimizer)
    source = save(tmp_path / "training.pt", model, optimizer)
    ledger = convert(source, tmp_path / "out.ckpt", to="modelzoo")
    names = {line["name"] for line in ledger.dropped}
    assert {"optimizer.state.0.step", "optimizer.state.40.exp_avg_sq", "epoch"} <= names
    assert not any(record.slot for record in ledger.tensors)


def test_layers_take_their_slots_along(model, tmp_path):
    optimizer = whole(model)
    train(model, optimizer)
    source = save(tmp_path / "training.pt", model, optimizer)
    ledger = convert(source, tmp_path / "out.pt", to="hf", with_optimizer=True, layers=(1,))
    saved = torch.load(tmp_path / "out.pt")["optimizer"]
    names = saved["param_groups"][0]["param_names"]
    key = names.index("bert.encoder.layer.0.output.dense.weight")
    want = moments(model, optimizer)["bert.encoder.layer.1.output.dense.weight"]["exp_avg"]
    assert torch.equal(saved["state"][key]["exp_avg"], want)
    assert not any("layer.1." in name for name in names)
    assert any("--layers" in line["reason"] and "exp_avg" in line["name"] for line in ledger.dropped)


@pytest.mark.parametrize(
    ("head", "config", "sizes"),
    [
        ("BertForPreTraining", "BertConfig", SIZES),
        ("BertForQuestionAnswering", "BertConfig", SIZES),
        ("RobertaForMaskedLM", "RobertaConfig", SIZES),
        ("RobertaForSequenceClassification", "RobertaConfig", SIZES),
        ("XLNetLMHeadModel", "XLNetConfig", {"vocab_size": 21, "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 12}),
        ("XLNetForSequenceClassification", "XLNetConfig", {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 12}),
        ("XLNetForQuestionAnswering", "XLNetConfig", {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 12}),
    ],
)
def test_the_order_is_that_of_the_models(head, config, sizes, transformers, tmp_path):
    """Sorted as safetensors sorts, the integers still find their parameters; written, they count as the model does."""
    model = getattr(transformers, head)(getattr(transformers, config)(**sizes))
    optimizer = whole(model)
    train(model, optimizer)
    model.save_pretrained(tmp_path / "saved")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    convert(tmp_path / "saved", tmp_path / "out.pt", to="hf", optimizer=tmp_path / "optimizer.pt")
    saved = torch.load(tmp_path / "out.pt")["optimizer"]
    assert saved["param_groups"][0]["param_names"] == [name for name, _ in model.named_parameters()]
    again = whole(copy.deepcopy(model))
    again.load_state_dict(saved)
    for mine, parameter in zip(again.param_groups[0]["params"], model.parameters(), strict=True):
        assert torch.equal(again.state[mine]["exp_avg"], optimizer.state[parameter]["exp_avg"])


def test_a_modules_own_parameters_come_first():
    names = ["net.block.0.weight", "net.scale", "net.norm.weight", "net.block.1.weight", "head"]
    assert module_order(names) == ["head", "net.scale", "net.block.0.weight", "net.block.1.weight", "net.norm.weight"]
    assert module_order(names, ["norm", "block"])[2] == "net.norm.weight"

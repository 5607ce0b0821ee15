"""The ports against transformers, against each other, and against what TinyBERT does that BERT does not."""

from dataclasses import replace

import numpy as np
import pytest
from tinybert_support import FRAMEWORKS, Net, build, config, farthest, features, golden, initial, original_config, text

from porting.backends.protocol import Build
from porting.model.dropout import Dropout
from porting.model.recipe import Clip
from porting.model.recipes import bert_finetune
from porting_tinybert.config import TinyBertConfig
from porting_tinybert.layout import layout
from porting_tinybert.spec import SPEC

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

everywhere = pytest.mark.parametrize("framework", FRAMEWORKS)

# Every size equal to some other, one head as wide as the model, two classes of tokens: nothing can be told by shape.
SQUARE = TinyBertConfig(
    vocab_size=24,
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=24,
    max_position_embeddings=24,
    type_vocab_size=24,
    hidden_act="silu",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    teacher=TinyBertConfig(
        vocab_size=24,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=1,
        intermediate_size=24,
        max_position_embeddings=24,
        type_vocab_size=24,
        hidden_act="relu",
        hidden_dropout_prob=0.5,
        attention_probs_dropout_prob=0.5,
    ),
)


def weights_of(net, seed=0):
    """Random weights by PyTorch's names, LayerNorm's around 1."""
    random = np.random.default_rng(seed)
    shapes = net.weights()
    found = {name: random.normal(0, 0.2, shapes[name].shape).astype(np.float32) for name in sorted(shapes)}
    return {n: t + 1 if n.endswith("LayerNorm.weight") else t for n, t in found.items()}


def labels(task, batch=3, seq=9):
    """Labels of a task, some tokens unlabelled."""
    random = np.random.default_rng(1)
    tokens = random.integers(0, 3, (batch, seq), np.int32)
    tokens[0, 5:] = -100
    every = {
        "label_ids": random.integers(0, 3, batch, np.int32),
        "label_values": random.normal(size=batch).astype(np.float32),
        "token_labels": tokens,
    }
    return {name: value for name, value in every.items() if name in SPEC.task(task).features}


def of_task(task, **more):
    return build(task, labels=1 if task == "regression" else 3, **more)


@pytest.mark.parametrize(("part", "act"), [("student", "gelu_erf"), ("student", "gelu_tanh"), ("teacher", "relu")])
def test_hidden_states_are_those_of_transformers(part, act):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    whole = original_config()
    whole = replace(whole, hidden_act=act, teacher=replace(whole.taught(), hidden_act=act))
    net = Net("pytorch", whole, build(part))
    weights, prefix = weights_of(net), "teacher." if part == "teacher" else ""
    net.load(weights)
    own = whole.taught() if part == "teacher" else whole
    theirs = {name: value for name, value in own.encoder.to_dict().items() if name != "model_type"}
    oracle = transformers.BertModel(transformers.BertConfig(**theirs, attn_implementation="eager")).eval()
    state = {n.removeprefix(f"{prefix}bert."): torch.from_numpy(t) for n, t in weights.items()}
    missing, unexpected = oracle.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    batch = text(own)
    with torch.no_grad():
        wanted = oracle(
            torch.from_numpy(batch["input_ids"]).long(),
            attention_mask=torch.from_numpy(batch["input_mask"]),
            token_type_ids=torch.from_numpy(batch["segment_ids"]).long(),
            output_hidden_states=True,
        )
    taps = ["encoder.input", *(f"layer.{i}.output" for i in range(own.num_hidden_layers))]
    found = net.session.forward(batch, [prefix + tap for tap in taps])
    for tap, state in zip(taps, wanted.hidden_states, strict=True):
        assert np.abs(found[prefix + tap] - state.numpy()).max() < 4e-6, tap
    assert np.abs(found[f"{prefix}pooled"] - wanted.pooler_output.numpy()).max() < 4e-6


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore"])
@pytest.mark.parametrize("task", ["general_distill", "task_distill_2_tokens", "classification", "regression"])
@pytest.mark.parametrize("which", [original_config(), SQUARE], ids=["original", "square"])
def test_every_tap_is_the_same_point_in_every_framework(framework, task, which):
    taps = layout(which, of_task(task)).taps()
    batch = {**text(which), **labels(task)}
    one, two = Net("pytorch", which, of_task(task)), Net(framework, which, of_task(task))
    weights = weights_of(one)
    mine, theirs = (net.load(weights).session.forward(batch, taps) for net in (one, two))
    assert set(mine) == set(theirs) == set(taps)
    for name in taps:
        assert mine[name].shape == theirs[name].shape, name
        masked = np.abs(mine[name]) > 1000  # near -10000 float32 has steps of 1e-3
        deviation = np.abs(mine[name] - theirs[name])
        assert deviation[~masked].max(initial=0) < 2e-5, name
        assert deviation[masked].max(initial=0) < 2e-3, name


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore"])
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("task", ["general_distill", "classification", "token_classification"])
def test_with_masks_drawn_once_dropout_is_the_same_everywhere(framework, mode, task):
    which = replace(
        original_config(), hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, pooled_activation="dropout"
    )
    drawn = of_task(task, dropout=Dropout("shared", seed=7))
    batch = {**text(which), **labels(task)}
    one, two = Net("pytorch", which, drawn), Net(framework, which, replace(drawn, mode=mode))
    weights = weights_of(one)
    (loss, mine), (other, theirs) = (net.load(weights).gradients(batch) for net in (one, two))
    assert abs(loss - other) < 1e-5 * max(1, abs(loss))
    whole = max(np.abs(grad).max() for grad in mine.values())
    assert farthest(theirs, mine)[0] < 2e-5 * whole
    without = Net("pytorch", which, of_task(task)).load(weights).gradients(batch)[0]
    assert abs(loss - without) > 1e-3
    if mode == "eager":  # an evaluation has no masks
        assert abs(two.session.forward(batch)["loss"] - without) < 1e-5 * max(1, abs(without))


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore"])
def test_where_nothing_is_visible_every_token_is(framework):
    # All scores are near -10000, where float32 has steps of 1e-3: so much may probabilities differ by.
    one, two = (Net(which, original_config(), build("student")) for which in ("pytorch", framework))
    weights, batch = weights_of(one), text(original_config())
    batch["input_mask"][:] = 0
    mine, theirs = (net.load(weights).session.forward(batch)["sequence"] for net in (one, two))
    assert np.isfinite(mine).all()
    assert np.abs(mine - theirs).max() < 5e-3
    batch["input_mask"][:] = 1
    assert np.abs(mine - one.session.forward(batch)["sequence"]).max() < 5e-3


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore"])
@pytest.mark.parametrize("task", ["task_distill_2", "token_classification"])
def test_a_batch_of_another_shape_is_differentiated_as_well(framework, task):
    one, two = (Net(which, original_config(), of_task(task)) for which in ("pytorch", framework))
    weights = weights_of(one)
    for net in (one, two):
        net.load(weights)
    for batch, seq in ((3, 9), (4, 5), (3, 9), (3, 12)):
        given = {**text(original_config(), batch=batch, seq=seq), **labels(task, batch, seq)}
        (loss, mine), (other, theirs) = (net.gradients(given) for net in (one, two))
        assert abs(loss - other) < 2e-6
        assert farthest(theirs, mine)[0] < 1e-5


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore"])
@pytest.mark.parametrize("which", [config(), original_config()], ids=["all rows", "padding_idx"])
def test_gathered_rows_count_apart_in_the_global_norm(framework, which):
    recipe = replace(bert_finetune(1e-3, 10, 0), names_of="hf")
    one, two = (Net(each, which, of_task("classification"), recipe) for each in ("pytorch", framework))
    weights = weights_of(one)
    batch = {**text(which), **labels("classification")}
    batch["input_ids"][1:] = batch["input_ids"][1:] % 5  # rows that are gathered many times
    summed = Net("pytorch", which, of_task("classification"), replace(recipe, clip=Clip("global_norm")))
    norms = [net.load(weights).session.step(batch).grad_norm for net in (one, two, summed)]
    assert abs(norms[0] / norms[1] - 1) < 1e-5
    assert abs(norms[0] / norms[2] - 1) > 1e-3
    tables = [net.weights()["bert.embeddings.word_embeddings.weight"] for net in (one, two)]
    assert np.abs(tables[0] - tables[1]).max() < 2e-5


@everywhere
def test_the_teacher_never_drops_and_never_learns(framework):
    whole = replace(config(), teacher=replace(config().taught(), hidden_dropout_prob=0.5))
    batch = features("general_distill", golden("inputs"))
    losses = []
    for mode in ("own", "off"):
        net = Net(framework, whole, build("general_distill", dropout=Dropout(mode, seed=3))).load(initial("gd"))
        loss, grads = net.gradients(batch)
        assert not any(name.startswith("teacher.") for name in grads)
        losses.append(loss)
    assert losses[0] == losses[1]


@everywhere
def test_the_student_drops_by_itself_in_training_only(framework):
    which = replace(config(), hidden_dropout_prob=0.3)
    net = Net(framework, which, build("general_distill", dropout=Dropout("own", seed=3))).load(initial("gd"))
    batch = features("general_distill", golden("inputs"))
    calm = net.session.forward(batch)["loss"]
    assert calm == net.session.forward(batch)["loss"]
    assert net.gradients(batch)[0] != net.gradients(batch)[0]


@everywhere
def test_a_row_of_padding_learns_only_without_padding_idx(framework):
    batch = features("general_distill", golden("inputs"))
    present = set(np.unique(batch["input_ids"]).tolist())
    assert {0, 8} <= present
    for row in (None, 0, 8):
        net = Net(framework, replace(config(), padding_idx=row), build("general_distill")).load(initial("gd"))
        grad = net.gradients(batch)[1]["bert.embeddings.word_embeddings.weight"]
        assert set(np.flatnonzero(np.abs(grad).max(1))) == present - {row}


@everywhere
def test_mask_and_token_types_may_be_absent(framework):
    net = Net(framework, config(), build("student")).load(initial("gd"))
    ids = {"input_ids": golden("inputs")["input_ids"]}
    bare = net.session.forward(ids)["sequence"]
    full = {**ids, "input_mask": np.ones_like(ids["input_ids"]), "segment_ids": np.zeros_like(ids["input_ids"])}
    assert np.array_equal(bare, net.session.forward(full)["sequence"])


@everywhere
@pytest.mark.parametrize("task", ["classification", "regression", "token_classification"])
def test_losses_with_labels(framework, task):
    net = Net(framework, config(), of_task(task))
    net.load(weights_of(net))
    batch = {**text(config()), **labels(task)}
    found = net.session.forward(batch)
    if task == "regression":
        wanted = np.mean((found["logits"][:, 0] - batch["label_values"]) ** 2)
    else:
        wanted_labels = batch[SPEC.task(task).features[-1]].reshape(-1)
        probs = found["log_probs"].reshape(-1, 3)
        wanted = -np.mean([probs[i, label] for i, label in enumerate(wanted_labels) if label >= 0])
    assert abs(found["loss"] - wanted) < 2e-6
    assert "loss" not in net.session.forward(text(config()))
    if task == "token_classification":
        nothing = {**text(config()), "token_labels": np.full((3, 9), -100, np.int32)}
        assert net.session.forward(nothing)["loss"] == 0


@everywhere
def test_relu_before_the_classifier_is_an_option(framework):
    batch, wanted = features("classification", golden("inputs")), golden("outputs")["eval/student_log_probs"]
    del batch["label_ids"]
    net = Net(framework, replace(config(), pooled_activation="dropout"), build("classification")).load(initial("td2"))
    found = net.session.forward(batch, ["pooled"])
    assert np.abs(found["log_probs"] - wanted).max() > 1e-2
    weight, bias = initial("td2")["classifier.weight"], initial("td2")["classifier.bias"]
    assert np.abs(found["pooled"] @ weight.T + bias - found["logits"]).max() < 2e-6


@pytest.mark.parametrize(
    "mistake",
    [{"hidden_act": "gelu_erf"}, {"pooled_activation": "dropout"}, {"temperature": 2.0}],
    ids=["erf for tanh", "no relu", "a temperature"],
)
def test_the_golden_data_tells_mistakes(mistake):
    wanted = golden("outputs")["td2/cls_loss"]
    batch = features("task_distill_2", golden("inputs"))
    loss = (
        Net("pytorch", config(**mistake), build("task_distill_2")).load(initial("td2")).session.forward(batch)["loss"]
    )
    assert abs(loss - wanted) > 2e-6


@pytest.mark.parametrize(
    ("framework", "compute"),
    [
        ("pytorch", "bfloat16"),
        ("pytorch", "float16"),
        ("tensorflow", "bfloat16"),
        ("tensorflow", "float16"),
        ("mindspore", "float16"),
    ],
)
def test_half_precision_is_near(framework, compute):
    batch = features("general_distill", golden("inputs"))
    net = Net(framework, config(), build("general_distill", compute=compute)).load(initial("gd"))
    loss, grads = net.gradients(batch)
    assert abs(loss / golden("outputs")["gd/total_loss"] - 1) < 2e-2
    assert all(np.isfinite(grad).all() for grad in grads.values())


def test_the_fused_kernel_gives_the_same_where_no_scores_are_distilled():
    batch = features("general_distill", golden("inputs"))
    fused = Build("general_distill", extra={"attention": "sdpa"})
    nets = [Net("pytorch", config(), one).load(initial("gd")) for one in (build("general_distill"), fused)]
    (loss, grads), (other, others) = (net.gradients(batch) for net in nets)
    assert abs(loss - other) < 1e-5
    assert farthest(others, grads)[0] < 1e-5

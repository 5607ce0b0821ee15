"""The ports against ModelZoo's TinyBERT on MindSpore and Huawei's on PyTorch.

Limits are the project's aims, tighter than what the manifest suggests.
"""

import numpy as np
import pytest
from tinybert_support import (
    FRAMEWORKS,
    TASKS,
    TEXT,
    Net,
    as_hf,
    build,
    checkpoint,
    config,
    farthest,
    features,
    from_modelzoo,
    golden,
    initial,
    original_config,
)

from porting.model.recipes import tinybert_bert_adam, tinybert_mindspore

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

FORWARD, LOSS, GRADIENT, TRAJECTORY, WEIGHT = 3e-6, 2e-6, 1.5e-5, 1e-5, 1e-5
LOG_PROBS = 4e-6  # MindSpore's log_softmax, which made the golden ones, is itself off by 4e-6 on the CPU
MASKED = 1e-3  # float32 has steps of 1e-3 near -10000
LOSSES = {"attention_loss": "att_loss", "representation_loss": "rep_loss", "loss": "total_loss"}
LAYERS = {"student": 2, "teacher": 4}


def runs(*, slow):
    """Every framework in both modes; those that compile or step slowly are of the slow tier."""
    both = [(framework, mode) for framework in FRAMEWORKS for mode in ("eager", "graph")]
    return [pytest.param(*run, marks=[pytest.mark.slow] if run in slow else []) for run in both]


# torch.compile takes minutes; MindSpore compiles for half a minute, and in PyNative its update is a thousand operators.
COMPILED = ("pytorch", "graph")
everywhere = pytest.mark.parametrize(("framework", "mode"), runs(slow=[COMPILED]))
in_training = pytest.mark.parametrize(("framework", "mode"), runs(slow=[COMPILED, ("mindspore", "eager")]))
lightly = pytest.mark.parametrize(("framework", "mode"), runs(slow=[COMPILED, ("mindspore", "graph")]))
phases = pytest.mark.parametrize("phase", TASKS)


@pytest.fixture
def reached(record_property):
    """Asserts a limit and writes down what was reached."""

    def check(what, deviation, limit):
        value, whose = deviation if isinstance(deviation, tuple) else (deviation, "")
        record_property(what, f"{float(value):.1e}")
        assert value <= limit, f"{what}: {value:.2e} above {limit:.0e} {whose}"

    return check


def relative(found, wanted):
    """Deviations relative to the tensor's maximum; a gradient that is zero in exact arithmetic, by the greatest of all.

    Attention does not change when all its scores do, so a key's bias has no gradient of a loss on probabilities.
    """
    whole = max(np.abs(tensor).max() for tensor in wanted.values())
    scale = {name: np.abs(tensor).max() for name, tensor in wanted.items()}
    by = {name: size if size > 1e-6 * whole else whole for name, size in scale.items()}
    return max((float(np.abs(found[name] - wanted[name]).max() / by[name]), name) for name in wanted)


@everywhere
@pytest.mark.parametrize("part", LAYERS)
def test_states_and_scores(framework, mode, part, reached):
    prefix = "teacher." if part == "teacher" else ""
    layers, wanted = LAYERS[part], golden("outputs")
    net = Net(framework, config(), build(part, mode)).load(initial("gd"))
    states = [f"{prefix}encoder.input", *(f"{prefix}layer.{i}.output" for i in range(layers))]
    scores = [f"{prefix}layer.{i}.attention.scores" for i in range(layers)]
    found = net.session.forward(features(part, golden("inputs")), [*states, *scores])
    hidden = wanted[f"{part}/encoder_outputs"]
    assert np.array_equal(found[states[-1]], found[f"{prefix}sequence"])
    reached("states", np.abs(np.stack([found[name] for name in states]).reshape(hidden.shape) - hidden).max(), FORWARD)
    reached("pooled", np.abs(found[f"{prefix}pooled"] - wanted[f"{part}/pooled_output"]).max(), FORWARD)
    deviation = np.abs(np.stack([found[name] for name in scores]) - wanted[f"{part}/attention_scores"])
    visible = wanted[f"{part}/attention_scores"] > -100
    assert not visible.all()
    reached("scores", deviation[visible].max(), FORWARD)
    reached("masked scores", deviation[~visible].max(), MASKED)


@everywhere
@phases
def test_losses_and_gradients(framework, mode, phase, reached):
    net = Net(framework, config(), build(TASKS[phase], mode)).load(initial(phase))
    batch, wanted = features(TASKS[phase], golden("inputs")), golden("outputs")
    found = net.session.forward(batch)
    if phase == "td2":
        reached("loss", abs(found["loss"] - wanted["td2/cls_loss"]), LOSS)
        for part, prefix in (("student", ""), ("teacher", "teacher.")):
            reached(f"{part} logits", np.abs(found[f"{prefix}logits"] - wanted[f"td2/{part}_logits"]).max(), FORWARD)
            probs = np.abs(found[f"{prefix}log_probs"] - wanted[f"td2/{part}_log_probs"]).max()
            reached(f"{part} log_probs", probs, LOG_PROBS)
    else:
        for name, original in LOSSES.items():
            reached(name, abs(found[name] - wanted[f"{phase}/{original}"]), LOSS)
    loss, grads = net.gradients(batch)
    assert abs(loss - found["loss"]) <= LOSS
    expected = from_modelzoo(golden(f"grads_{phase}"))
    assert set(grads) == set(expected) == net.trained()
    reached("gradients", relative(grads, expected), GRADIENT)


@lightly
def test_temperature_divides_both_logits_and_nothing_else(framework, mode, reached):
    net = Net(framework, config(temperature=2.0), build("task_distill_2", mode)).load(initial("td2"))
    loss = net.session.forward(features("task_distill_2", golden("inputs")))["loss"]
    reached("loss", abs(loss - golden("outputs")["td2/cls_loss_temperature2"]), LOSS)


@everywhere
@pytest.mark.parametrize(
    ("task", "output", "original"),
    [
        ("classification", "log_probs", "eval/student_log_probs"),
        ("token_classification", "logits", "ner/student_logits"),
    ],
)
def test_the_student_alone(framework, mode, task, output, original, reached):
    net = Net(framework, config(), build(task, mode)).load(initial("td2"))
    wanted = golden("outputs")[original]
    found = net.session.forward(features(task, {name: golden("inputs")[name] for name in TEXT}))[output]
    limit = LOG_PROBS if output == "log_probs" else FORWARD
    reached(output, np.abs(found.reshape(wanted.shape) - wanted).max(), limit)


@in_training
@phases
def test_training_with_mindspores_optimizer(framework, mode, phase, reached):
    recipe = tinybert_mindspore(1e-3, steps=12, warmup=2)
    net = Net(framework, config(), build(TASKS[phase], mode), recipe).load(initial(phase))
    batches = golden("train_inputs")
    losses = [net.session.step(features(TASKS[phase], batches, i)).loss for i in range(10)]
    reached("trajectory", np.abs(np.array(losses) - golden("trajectory")[f"{phase}/loss"]).max(), TRAJECTORY)
    state = golden(f"optimizer_after_{phase}")
    fit = {name: tensor for name, tensor in state.items() if name.startswith("fit_dense")}
    final = from_modelzoo(checkpoint(f"student_after_{phase}")) | fit
    weights = net.weights()
    assert net.trained() == set(final)
    reached("weights", farthest(weights, final), WEIGHT)
    assert all(
        np.array_equal(weights[name], tensor)
        for name, tensor in initial(phase).items()
        if name in weights and name.startswith("teacher.")
    )
    for role, moments in net.slots().items():
        wanted = from_modelzoo(
            {n.removeprefix(f"adam_{role}."): t for n, t in state.items() if n.startswith(f"adam_{role}.")}
        )
        assert set(moments) == set(wanted)
        reached(role, farthest(moments, wanted), WEIGHT)


def original(kind):
    """Arrays of Huawei's PyTorch code that begin with a prefix."""
    return {n.removeprefix(kind): t for n, t in golden("original_pytorch").items() if n.startswith(kind)}


@lightly
@phases
def test_huaweis_losses_and_gradients(framework, mode, phase, reached):
    net = Net(framework, original_config(), build(TASKS[phase], mode)).load(initial(phase))
    batch, wanted = features(TASKS[phase], golden("inputs")), original(f"{phase}/")
    found = net.session.forward(batch)
    if phase == "td2":
        reached("loss", abs(found["loss"] - wanted["cls_loss"]), LOSS)
        reached("logits", np.abs(found["logits"] - wanted["student_logits"]).max(), FORWARD)
    else:
        reached("attention_loss", abs(found["attention_loss"] - wanted["att_loss"]), LOSS)
        reached("representation_loss", abs(found["representation_loss"] - wanted["rep_loss"]), LOSS)
    _, grads = net.gradients(batch)
    expected = original(f"grad_{phase}/")
    if expected:
        assert not expected["bert.embeddings.word_embeddings.weight"][0].any()
        assert not grads["bert.embeddings.word_embeddings.weight"][0].any()
        reached("gradients", relative(grads, expected), GRADIENT)


@lightly
def test_huaweis_states_and_fits(framework, mode, reached):
    net = Net(framework, original_config(), build("general_distill", mode)).load(initial("gd"))
    teacher = ["teacher.encoder.input", *(f"teacher.layer.{i}.output" for i in range(4))]
    fits = [f"fit.{i}" for i in range(3)]
    found = net.session.forward(features("general_distill", golden("inputs")), [*teacher, *fits, "teacher.pooled"])
    wanted = golden("original_pytorch")
    reached("states", np.abs(np.stack([found[n] for n in teacher]) - wanted["teacher/encoder_outputs"]).max(), FORWARD)
    reached("pooled", np.abs(found["teacher.pooled"] - wanted["teacher/pooled_output"]).max(), FORWARD)
    reached("fits", np.abs(np.stack([found[n] for n in fits]) - wanted["student/fit_dense_outputs"]).max(), FORWARD)


@in_training
@phases
def test_training_with_bert_adam(framework, mode, phase, reached):
    recipe = tinybert_bert_adam(1e-3, 10, warmup=0.2, constant=phase == "td1")
    net = Net(framework, original_config(), build(TASKS[phase], mode), recipe).load(initial(phase))
    batches = golden("train_inputs")
    losses = [net.session.step(features(TASKS[phase], batches, i)).loss for i in range(10)]
    reached(
        "trajectory",
        np.abs(np.array(losses) - golden("original_pytorch")[f"trajectory/{phase}_loss"]).max(),
        TRAJECTORY,
    )
    final = original(f"final_{phase}/")
    assert final or phase != "gd"
    if final:
        reached("weights", farthest(net.weights(), final), WEIGHT)


def test_the_names_of_the_nets_are_the_originals():
    for phase, net in (("gd", "BertNetworkWithLoss_gd"), ("td1", "BertNetworkWithLoss_td")):
        from tinybert_support import MANIFEST

        listed = {name for name, *_ in MANIFEST["parameters"][net]}
        assert set(Net("mindspore", config(), build(TASKS[phase])).session.parameters) == listed
        assert len(set(as_hf(listed, "modelzoo").values())) == len(listed)

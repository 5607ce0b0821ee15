"""The ports against transformers' XLNet on configs that hypothesis draws, where transformers can do them.

It cannot do: d_head other than d_model / n_head, an attention summary, a query stream without a target mapping, tied
biases, two rates of dropout, padding under uni attention in batches above 1.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xlnet_support import FRAMEWORKS, build, carried, farthest, random_batch, session

from porting_xlnet.config import configure
from porting_xlnet.spec import SPEC

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.torch]

RENAMED = {
    "input_ids": "input_ids",
    "input_k": "input_ids",
    "segment_ids": "token_type_ids",
    "seg_id": "token_type_ids",
    "input_mask": "input_mask",
    "perm_mask": "perm_mask",
    "target_mapping": "target_mapping",
    "mems": "mems",
    "p_mask": "p_mask",
    "cls_index": "cls_index",
    "label_ids": "labels",
    "label_values": "labels",
}
CLASSES = {
    "encoder": "XLNetModel",
    "pretraining": "XLNetLMHeadModel",
    "classification": "XLNetForSequenceClassification",
    "regression": "XLNetForSequenceClassification",
    "question_answering": "XLNetForQuestionAnswering",
}
NEAR = 2e-5  # of the greatest value; two honest implementations differ by less than 1e-5 on three layers


@st.composite
def cases(draw):
    """A task, a config in transformers' words, the sizes of a batch, and which optional features it has."""
    task = draw(st.sampled_from(sorted(CLASSES)))
    heads, width = draw(st.integers(1, 4)), draw(st.integers(2, 6)) * 2  # LayerNorm leaves only signs of two
    uni = draw(st.booleans())
    config = {
        "vocab_size": draw(st.integers(8, 40)),
        "d_model": heads * width,
        "n_layer": draw(st.integers(1, 3)),
        "n_head": heads,
        "d_inner": draw(st.integers(1, 24)),
        "ff_activation": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu"])),
        "attn_type": "uni" if uni else "bi",
        "mem_len": draw(st.integers(1, 9)),
        "reuse_len": draw(st.integers(0, 5)),
        "clamp_len": draw(st.sampled_from([-1, 1, 4])),
        "bi_data": draw(st.booleans()),
        "same_length": draw(st.booleans()),
        "summary_type": draw(st.sampled_from(["last", "first", "mean"])),
        "summary_use_proj": draw(st.booleans()),
        "start_n_top": draw(st.integers(1, 4)),
        "end_n_top": draw(st.integers(1, 4)),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5])),
    }
    config["summary_activation"] = "tanh" if config["summary_use_proj"] else ""
    batch = 2 * draw(st.integers(1, 2)) if config["bi_data"] else draw(st.integers(1, 3))
    seq = draw(st.integers(4, 9))
    sizes = {"batch": batch, "seq": seq, "predict": draw(st.integers(1, 4)), "seed": draw(st.integers(0, 99))}
    sizes["mems"] = draw(st.integers(0, 6)) if task in ("encoder", "pretraining") else 0
    masked = not uni or batch == 1
    optional = {"segment_ids", "seg_id"} | ({"input_mask", "perm_mask"} if masked else set())
    dropped = {name for name in sorted(optional) if draw(st.booleans())}
    return task, config, sizes, dropped | ({"input_mask", "perm_mask"} - optional)


def theirs(task, values):
    """A model of transformers with wide weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    labels = {"classification": 3, "regression": 1}.get(task, 2)
    problem = {} if task != "regression" else {"problem_type": "regression"}
    config = transformers.XLNetConfig(**values, num_labels=labels, **problem)
    torch.manual_seed(0)
    model = getattr(transformers, CLASSES[task])(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1 if "norm.weight" in name.lower() else 0, 0.2)
    return model


def ours(framework, task, model, folder):
    """The port with the same weights."""
    values = model.config.to_dict()
    opened = session(
        framework, configure(values), build(task, labels=3 if task == "classification" else 1, task_name="task")
    )
    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "lm_loss.weight"}
    if task == "encoder":
        weights = {f"transformer.{name}": value for name, value in weights.items()}
    if task == "regression" and framework != "pytorch":
        # names alone do not tell one class from a score
        renamed = carried(weights, "kit_pt", SPEC.dialects[framework], folder)
        tensors = {name.replace("classification_", "regression_"): value for name, value in renamed.items()}
    else:
        tensors = carried(weights, "kit_pt", SPEC.dialects[framework], folder)
    opened.load({name: tensors[name] for name in opened.parameters})
    return opened


def answers(task, model, batch):
    """What transformers gives for our batch, under our names."""
    import torch

    features = {RENAMED[name]: torch.from_numpy(value) for name, value in batch.items() if name in RENAMED}
    whole = ("input_ids", "token_type_ids", "cls_index", *(("labels",) if task == "classification" else ()))
    features = {name: value.long() if name in whole else value for name, value in features.items()}
    if "mems" in features:
        features["mems"] = list(features["mems"])
    if task == "pretraining":
        ignored = np.where(batch["target_mask"] > 0, batch["target"], -100)
        features["labels"] = torch.from_numpy(ignored).long()
    with torch.no_grad():
        found = model(**features)
    if task in ("encoder", "pretraining"):
        given = {"sequence": found[0]} if task == "encoder" else {"logits": found.logits, "loss": found.loss}
        return {**given, "new_mems": torch.stack(list(found.mems))}
    if task == "question_answering":
        return spans(model.config, found)
    return {"logits": found.logits.squeeze(-1) if task == "regression" else found.logits, "loss": found.loss}


def spans(config, found):
    """Beams in the original's order, start by start, which transformers lists end by end; and probabilities."""
    batch = found.start_top_log_probs.shape[0]

    def turned(tensor):
        return tensor.reshape(batch, -1, found.start_top_index.shape[1]).transpose(1, 2).reshape(batch, -1)

    assert found.start_top_index.shape[1] == config.start_n_top
    return {
        "start_top_log_probs": found.start_top_log_probs.log(),
        "start_top_index": found.start_top_index,
        "end_top_log_probs": turned(found.end_top_log_probs).log(),
        "end_top_index": turned(found.end_top_index),
        "cls_logits": found.cls_logits,
    }


def agree(framework, case, folder, *, strict=False):
    task, values, sizes, dropped = case
    model = theirs(task, values)
    batch = random_batch(configure(model.config.to_dict()), task, **sizes)
    batch = {name: value for name, value in batch.items() if name not in dropped}
    if task == "question_answering":
        batch = {name: value for name, value in batch.items() if name not in ("start_positions", "end_positions")}
        batch["p_mask"] = np.zeros_like(batch["p_mask"])
    wanted = {name: value.numpy() for name, value in answers(task, model, batch).items()}
    found = ours(framework, task, model, folder).forward(batch)
    for name, value in wanted.items():
        if name.endswith("index") and not strict:
            continue  # of two that are equal but for rounding either may be first
        scale = max(1.0, float(np.abs(value).max()))
        assert farthest(found[name], value) <= NEAR * scale, (name, case)


FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FEW, max_examples=50)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@FEW
@given(case=cases())
def test_transformers_agrees(framework, case, tmp_path):
    agree(framework, case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@MANY
@given(case=cases())
def test_transformers_agrees_often(framework, case, tmp_path):
    agree(framework, case, tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_beams_are_the_same_places(framework, tmp_path):
    values = {
        "vocab_size": 30,
        "d_model": 16,
        "n_layer": 2,
        "n_head": 2,
        "d_inner": 20,
        "start_n_top": 4,
        "end_n_top": 3,
    }
    case = "question_answering", values, {"batch": 3, "seq": 9}, set()
    agree(framework, case, tmp_path, strict=True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_gradients_are_transformers(framework, tmp_path):
    """Of the permutation language model, for every parameter."""
    values = {"vocab_size": 30, "d_model": 12, "n_layer": 2, "n_head": 3, "d_inner": 20, "mem_len": 4, "dropout": 0.0}
    model = theirs("pretraining", values)
    batch = random_batch(configure(model.config.to_dict()), "pretraining", mems=4)
    import torch

    with torch.enable_grad():
        features = {RENAMED[name]: torch.from_numpy(value) for name, value in batch.items() if name in RENAMED}
        features |= {name: features[name].long() for name in ("input_ids", "token_type_ids")}
        labels = torch.from_numpy(np.where(batch["target_mask"] > 0, batch["target"], -100)).long()
        loss = model(**features | {"mems": list(features["mems"])}, labels=labels).loss
        loss.backward()
    wanted = {name: value.grad.numpy() for name, value in model.named_parameters()}
    found_loss, grads = ours(framework, "pretraining", model, tmp_path).gradients(batch)
    assert abs(found_loss - float(loss)) <= 1e-5
    found = carried(grads, SPEC.dialects[framework], "kit_pt", tmp_path)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert farthest(found[name], value) <= 2e-5 * max(1e-2, float(np.abs(value).max())), name

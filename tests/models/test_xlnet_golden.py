"""The ports against zihangdai/xlnet itself, run on TensorFlow 2.21.

Limits are the project's aims, tighter than what the manifest suggests. A compiled graph takes long to make: most cases
are compiled in the slow tier only.
"""

import numpy as np
import pytest
from xlnet_support import (
    CONFIG,
    MANIFEST,
    build,
    changed,
    checkpoint,
    everywhere,
    farthest,
    golden,
    loaded,
    part,
    to_google,
    trained,
)

from porting.model.recipes import xlnet_finetune, xlnet_pretrain

pytestmark = pytest.mark.filterwarnings("ignore")

FORWARD, LOSS, GRADIENT, TRAJECTORY, WEIGHT = 3e-6, 2e-6, 1.5e-5, 1e-5, 1e-5
TOKEN_LOSS = (
    1e-5  # of one token, up to 15, where float32 has steps of 1e-6: transformers is 2.9e-6 off here, MindSpore 6e-6
)
SPREAD = {
    "mindspore": 2.0
}  # its softmax is 9e-7 off on the CPU, PyTorch's 1e-7: it reaches 2.9e-6, too near to the aim
UNTRAINED = 1e-6  # MANIFEST's note: entries of r/kernel whose gradient is but rounding

TEXT = {name: value for name, value in part(golden("inputs"), "ft/").items() if name != "label_ids"}
LABELS = golden("inputs")["ft/label_ids"]
WORDS = {name: TEXT[name] for name in ("input_ids", "segment_ids")}
PRE = part(golden("inputs"), "pre/")
MEMS = {"mems": golden("inputs")["mems"]}
CACHES = {"mem_len": MANIFEST["mem_len"], "reuse_len": MANIFEST["reuse_len"]}
ALL = {"target": PRE["input_k"], "target_mask": np.ones((4, 16), np.float32)}
WHOLE = {name: value for name, value in PRE.items() if name not in ("target_mapping", "target", "target_mask")} | ALL
FULL = {"perm_mask": golden("inputs")["fullperm/perm_mask"], "input_q": np.ones((4, 16), np.float32)}

ENCODER = {
    "ft": (TEXT, {}),
    "noseg_nomask": ({"input_ids": TEXT["input_ids"]}, {}),
    "mem": (TEXT | MEMS, CACHES),
    "mem_first": (TEXT, CACHES),
    "uni": (WORDS | MEMS, {"attn_type": "uni"}),
    "uni_same": (WORDS | MEMS, {"attn_type": "uni", "same_length": True}),
    "uni_mask": (TEXT | MEMS, {"attn_type": "uni"}),
    "uni_nomem": (TEXT, {"attn_type": "uni"}),
}
PRETRAINING = {
    "pre": (PRE | MEMS, {}),
    "pre_nomem": (PRE, {}),
    "pre_bidata": (PRE | MEMS, {"bi_data": True}),
    "fullperm_nomem": (WHOLE | FULL, {}),
    "inpq_mem": (WHOLE | MEMS, {}),
}


@pytest.fixture
def reached(record_property):
    """Asserts a limit and writes down what was reached."""

    def check(what, deviation, limit):
        record_property(what, f"{deviation:.1e}")
        assert deviation <= limit, f"{what}: {deviation:.2e} above {limit:.0e}"

    return check


@everywhere
@pytest.mark.parametrize("case", ENCODER)
def test_states_and_mems(framework, mode, case, tmp_path, reached):
    batch, flags = ENCODER[case]
    found = loaded(framework, changed(**flags), build("encoder", mode), checkpoint(), tmp_path).forward(batch)
    wanted = part(golden("outputs"), f"{case}/")
    if "sequence_output" in wanted:
        reached(
            f"{case} sequence",
            farthest(found["sequence"].swapaxes(0, 1), wanted["sequence_output"]),
            FORWARD * SPREAD.get(framework, 1),
        )
    assert ("new_mems" in found) == ("new_mems" in wanted)
    if "new_mems" in wanted:
        reached(f"{case} mems", farthest(found["new_mems"], wanted["new_mems"]), FORWARD * SPREAD.get(framework, 1))


@everywhere
@pytest.mark.parametrize("case", PRETRAINING)
def test_two_streams(framework, mode, case, tmp_path, reached):
    batch, flags = PRETRAINING[case]
    model = loaded(framework, changed(**CACHES, **flags), build("pretraining", mode), checkpoint(), tmp_path)
    found = model.forward(batch, ["per_example_loss"])
    wanted = part(golden("outputs"), f"{case}/")
    reached(
        f"{case} sequence",
        farthest(found["sequence"].swapaxes(0, 1), wanted["output"]),
        FORWARD * SPREAD.get(framework, 1),
    )
    reached(f"{case} mems", farthest(found["new_mems"], wanted["new_mems"]), FORWARD * SPREAD.get(framework, 1))
    reached(f"{case} loss", farthest(found["loss"], wanted["total_loss"]), LOSS)
    reached(f"{case} tokens", farthest(found["per_example_loss"].T, wanted["lm_loss_per_token"]), TOKEN_LOSS)


@everywhere
@pytest.mark.parametrize("summary", ["last", "first", "mean", "attn"])
@pytest.mark.parametrize("project", [True, False])
def test_summaries(framework, mode, summary, project, tmp_path, reached):
    flags = {"summary_type": summary, "use_summ_proj": project}
    model = loaded(framework, CONFIG, build("classification", mode, **flags), checkpoint(), tmp_path)
    found = model.forward(TEXT)["pooled"]
    name = f"pooled_{summary}" + ("" if project else "_noproj")
    reached(name, farthest(found, golden("outputs")[f"ft/{name}"]), FORWARD)


@everywhere
@pytest.mark.parametrize(
    ("task", "head", "summary"),
    [
        ("classification", "ft/cls_", "last"),
        ("classification", "ft_attn/cls_", "attn"),
        ("regression", "ft/reg_", "last"),
    ],
)
def test_heads(framework, mode, task, head, summary, tmp_path, reached):
    labels = {"label_ids": LABELS} if task == "classification" else {"label_values": LABELS.astype(np.float32)}
    model = loaded(framework, CONFIG, build(task, mode, summary_type=summary), checkpoint(), tmp_path)
    found = model.forward(TEXT | labels, ["per_example_loss"])
    wanted = part(golden("outputs"), head)
    reached(f"{head}logits", farthest(found["logits"], wanted["logits"]), FORWARD)
    reached(f"{head}loss", farthest(found["loss"], wanted["loss"]), LOSS)
    reached(f"{head}examples", farthest(found["per_example_loss"], wanted["per_example_loss"]), LOSS)


@everywhere
@pytest.mark.parametrize(("task", "file"), [("classification", "grads_cls"), ("pretraining", "grads_pretrain")])
def test_gradients(framework, mode, task, file, tmp_path, reached):
    batch = TEXT | {"label_ids": LABELS} if task == "classification" else PRE | MEMS
    model = loaded(framework, changed(**CACHES), build(task, mode), checkpoint(), tmp_path)
    _, grads = model.gradients(batch)
    found, wanted = to_google(framework, grads, tmp_path, task="mnli"), golden(file)
    assert set(found) == set(wanted)
    worst = max(farthest(found[name], wanted[name]) / np.abs(wanted[name]).max() for name in wanted)
    reached(f"{file}", worst, GRADIENT)


@trained
@pytest.mark.parametrize("kind", ["ft", "pre"])
def test_training(framework, mode, kind, tmp_path, reached):
    """Losses, rates and norms of every step, and the weights and moments at the end."""
    task, recipe, end = {
        "ft": ("classification", xlnet_finetune, "finetuned.ckpt"),
        "pre": ("pretraining", xlnet_pretrain, "pretrained.ckpt"),
    }[kind]
    flags = MANIFEST["optimizer_finetune" if kind == "ft" else "optimizer_pretrain"]
    recipe = recipe(
        flags["learning_rate"],
        flags["train_steps"],
        flags["warmup_steps"],
        end_ratio=flags["min_lr_ratio"],
        weight_decay=flags["weight_decay"],
        epsilon=flags["adam_epsilon"],
        clip=flags["clip"],
    )
    config = CONFIG if kind == "ft" else changed(**CACHES)
    model = loaded(framework, config, build(task, mode), checkpoint(), tmp_path, recipe)
    batches, wanted = part(golden("train_inputs"), f"{kind}/"), part(golden("trajectory"), f"{kind}/")
    carry = {} if kind == "ft" else {"mems": np.zeros_like(MEMS["mems"])}
    steps = []
    for step in range(flags["n_steps"]):
        batch = {name: values[step] for name, values in batches.items()} | carry
        if carry:
            carry = {"mems": model.forward(batch)["new_mems"]}
        steps.append(model.step(batch))
    reached(f"{kind} losses", farthest(np.array([s.loss for s in steps]), wanted["loss"]), TRAJECTORY)
    np.testing.assert_allclose([s.lr for s in steps], wanted["lr"], rtol=1e-6)
    np.testing.assert_allclose([s.grad_norm for s in steps], wanted["gnorm_used_for_clip"], rtol=1e-5)
    if carry:
        reached("pre mems", farthest(carry["mems"], wanted["final_mems"]), TRAJECTORY)
    _compare_end(framework, model, checkpoint(end), tmp_path, reached, kind)


def _compare_end(framework, model, end, folder, reached, kind):
    found = to_google(framework, model.weights(), folder, task="mnli")
    slots = {role: to_google(framework, values, folder, task="mnli") for role, values in model.slots().items()}
    assert set(found) == {name for name in end if "/adam_" not in name and name != "global_step"}
    trained = {name: np.sqrt(end[f"{name}/adam_v"]) >= UNTRAINED for name in found}
    worst = max(float(np.abs(found[name] - end[name])[trained[name]].max()) for name in found)
    reached(f"{kind} weights", worst, WEIGHT)
    reached(f"{kind} m", max(farthest(slots["m"][name], end[f"{name}/adam_m"]) for name in found), 1e-6)
    reached(f"{kind} v", max(farthest(slots["v"][name], end[f"{name}/adam_v"]) for name in found), 1e-8)


def test_fine_tuning_has_no_mask_embedding(tmp_path):
    """The original's graph has none, so its optimizer never decays it."""
    model = loaded("pytorch", CONFIG, build("classification"), checkpoint(), tmp_path)
    assert not any("mask_emb" in name for name in model.parameters)

"""How near the BERT ports come to the golden data: judged by test_bert_golden.py, shown in the port card.

Run as a script it measures every framework and mode and writes the table of models/bert/README.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bert_support import FRAMEWORKS, build, carried, config, features, golden, golden_weights, loaded

from porting.model.recipes import bert_finetune, bert_pretrain
from porting_bert.spec import SPEC

README = Path(__file__).parents[2] / "models" / "bert" / "README.md"
START, END = "<!-- acceptance: tests/models/bert_acceptance.py -->", "<!-- end of acceptance -->"
MODES = ("eager", "graph")

STATES = {
    "embeddings": "embedding_output",
    "layer.0.output": "layer_0_output",
    "layer.1.output": "layer_1_output",
    "sequence": "sequence_output",
    "pooled": "pooled_output",
}
FINAL = {"gather": "finetuned.ckpt", "onehot": "finetuned_onehot.ckpt"}


def gap(found: Any, wanted: Any) -> float:
    """The largest absolute difference; infinite for a NaN, which no number is near."""
    worst = float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max())
    return np.inf if np.isnan(worst) else worst


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def forward(framework: str, mode: str, folder: Path) -> dict[str, float]:
    """Of states, logits and losses, in classification, in pre-training, and without mask and segments."""
    inputs, outputs, weights = golden("inputs"), golden("outputs"), golden_weights()
    session = loaded(framework, SPEC, config(), build(mode=mode), weights, folder)
    found = session.forward(features("classification", inputs), STATES)
    gaps = {f"forward {name}": gap(found[tap], outputs[name]) for tap, name in STATES.items()}
    gaps["forward cls_logits"] = gap(found["logits"], outputs["cls_logits"])
    gaps["loss cls_loss"] = gap(found["loss"], outputs["cls_loss"])
    bare = session.forward({"input_ids": inputs["input_ids"]}, ("sequence", "pooled"))
    for name in ("sequence", "pooled"):
        gaps[f"forward default_{name}_output"] = gap(bare[name], outputs[f"default_{name}_output"])
    session = loaded(framework, SPEC, config(), build("pretraining", mode), weights, folder)
    found = session.forward(features("pretraining", inputs), ("mlm.loss", "nsp.loss"))
    for tap, name in (("mlm", "masked_lm"), ("nsp", "next_sentence")):
        wanted = outputs[f"{name}_log_probs"]
        gaps[f"log-probs {name}"] = gap(log_softmax(found[f"{tap}.logits"]).reshape(wanted.shape), wanted)
        gaps[f"loss {name}_loss"] = gap(found[f"{tap}.loss"], outputs[f"{name}_loss"])
    return gaps | {"loss pretrain_total_loss": gap(found["loss"], outputs["pretrain_total_loss"])}


def gradients(framework: str, mode: str, folder: Path) -> dict[str, float]:
    """Of every parameter, relative to its tensor's largest; of keys' biases, whose true gradient is 0, absolute."""
    gaps: dict[str, float] = {}
    for task, name in (("classification", "grads_cls"), ("pretraining", "grads_pretrain")):
        session = loaded(framework, SPEC, config(), build(task, mode), golden_weights(), folder)
        _, found = session.gradients(features(task, golden("inputs")))
        found, wanted = carried(found, SPEC, "tensorflow", folder, source=SPEC.dialects[framework]), golden(name)
        if found.keys() != wanted.keys():
            raise AssertionError(f"{name}: {sorted(found.keys() ^ wanted.keys())}")
        for each, value in wanted.items():
            key = each.endswith("key/bias")
            kind, scale = ("key bias", 1.0) if key else ("gradient", float(np.abs(value).max()))
            gaps[f"{kind} {task} {each}"] = gap(found[each], value) / scale
    return gaps


def trajectory(framework: str, mode: str, case: str, folder: Path) -> dict[str, float]:
    """Of 30 training steps: losses, norms, rates, and of the weights and moments after them."""
    task = "pretraining" if case == "pretrain" else "classification"
    rows = {"gather": bert_finetune, "onehot": bert_pretrain, "pretrain": bert_pretrain}
    made = build(task, mode, extra={"one_hot": case == "onehot"})
    session = loaded(framework, SPEC, config(), made, golden_weights(), folder, rows[case](1e-3, 30, 4))
    wanted, inputs = golden("trajectory"), features(task, golden("train_inputs"))
    steps = [session.step({name: value[i] for name, value in inputs.items()}) for i in range(30)]
    gaps = {
        f"trajectory {case} loss": gap([step.loss for step in steps], wanted[f"{case}/loss"]),
        f"trajectory {case} norm": gap([step.grad_norm for step in steps], wanted[f"{case}/gnorm_used_for_clip"]),
    }
    if case in FINAL:
        gaps[f"trajectory {case} rate"] = gap([step.lr for step in steps], wanted[f"{case}/lr"])
        final, slots = golden_weights(FINAL[case]), session.slots()
        for kind, suffix, tensors in (
            ("weight", "", session.weights()),
            ("moment", "/adam_m", slots["m"]),
            ("moment", "/adam_v", slots["v"]),
        ):
            back = carried(tensors, SPEC, "tensorflow", folder, source=SPEC.dialects[framework])
            gaps |= {f"{kind} {case} {name}{suffix}": gap(value, final[name + suffix]) for name, value in back.items()}
    return gaps


def worst(gaps: Mapping[str, float], kind: str) -> float:
    """The largest gap of a kind."""
    return max(value for name, value in gaps.items() if name.startswith(f"{kind} "))


def measured(framework: str, mode: str, folder: Path) -> dict[str, float]:
    """All gaps of a framework in a mode."""
    gaps = forward(framework, mode, folder) | gradients(framework, mode, folder)
    for case in ("gather", "onehot", "pretrain"):
        gaps |= trajectory(framework, mode, case, folder)
    return gaps


KINDS = ("forward", "log-probs", "loss", "gradient", "key bias", "trajectory", "weight", "moment")


def table(frameworks: tuple[str, ...] = FRAMEWORKS) -> str:
    """The acceptance table, in Markdown."""
    lines = [f"| | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for framework in frameworks:
        for mode in MODES:
            with tempfile.TemporaryDirectory() as folder:
                gaps = measured(framework, mode, Path(folder))
            cells = " | ".join(f"{worst(gaps, kind):.1e}" for kind in KINDS)
            lines.append(f"| {framework} {mode} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Put the table into the port card."""
    text = table()  # takes minutes: the card is read after it
    before, rest = README.read_text("utf-8").split(START)
    _, after = rest.split(END)
    README.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", "utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()

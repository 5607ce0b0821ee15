"""BERT's training step (loss and gradients, dropout off) against a public one, paired, on the CPU.

    python benchmarks/models_bert.py [--case NAME] [--size bert-mini] [--rounds N] [--batch B] [--seq S]

    eager       PyTorch: transformers' BertForSequenceClassification, eager attention on both sides
    sdpa        PyTorch: the same, scaled_dot_product_attention on both sides
    tensorflow  the same layers from Keras, in one tf.function; this port in tf.function too

transformers and Keras compute the tanh form of gelu by their fastest function for it. Every round runs both, in turns
first, so a machine that drifts drifts under both; the figure is the median of the rounds' ratios, this project's time
to the other's, with the quartiles.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from paired import against

from porting.backends.protocol import Build
from porting_bert.config import BertConfig
from porting_bert.spec import SPEC

Step = Callable[[], Any]
Arrays = dict[str, np.ndarray[Any, Any]]
CASES = ("eager", "sdpa", "tensorflow")


def batch_of(config: BertConfig, batch: int, seq: int) -> Arrays:
    """Sentences of random length, as tasks have them."""
    random = np.random.default_rng(0)
    lengths = random.integers(seq // 2, seq + 1, (batch, 1))
    return {
        "input_ids": random.integers(0, config.vocab_size, (batch, seq), np.int32),
        "input_mask": (np.arange(seq) < lengths).astype(np.int32),
        "segment_ids": random.integers(0, 2, (batch, seq), np.int32),
        "label_ids": random.integers(0, 2, batch, np.int32),
    }


def pytorch(config: BertConfig, arrays: Arrays, attention: str) -> tuple[Step, Step]:
    """This port, and transformers."""
    import torch
    import transformers

    tensors = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
    build = Build("classification", extra={"attention": attention})
    ours = SPEC.port("pytorch").build(config, build).train()
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu_pytorch_tanh"}
    values = {name: value for name, value in (config.to_dict() | rates).items() if name != "model_type"}
    other = transformers.BertConfig(**values, attn_implementation=attention)
    theirs = transformers.BertForSequenceClassification(other).train()
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    call = {name: tensors[own] for name, own in names.items()} | {"labels": tensors["label_ids"]}

    def step(model: Any, loss: Callable[[], Any]) -> None:
        model.zero_grad()
        loss().backward()

    return lambda: step(ours, lambda: ours(tensors)["loss"]), lambda: step(theirs, lambda: theirs(**call).loss)


def tensorflow(config: BertConfig, arrays: Arrays) -> tuple[Step, Step]:
    """This port, and Keras."""
    import tensorflow as tf

    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    ours = SPEC.port("tensorflow").build(config, Build("classification"))
    theirs = _keras(config, arrays["input_ids"].shape[1])
    text = [tensors[name] for name in ("input_ids", "input_mask", "segment_ids")]
    judge = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(loss: Callable[[], Any], weights: Any) -> Step:
        @tf.function  # type: ignore[untyped-decorator] # TensorFlow ships no types
        def run() -> Any:
            with tf.GradientTape() as tape:
                value = loss()
            return value, tape.gradient(value, weights)

        return lambda: float(run()[0])

    mine = step(lambda: ours(tensors)["loss"], ours.trainable_variables)
    return mine, step(lambda: judge(tensors["label_ids"], theirs(text)), theirs.trainable_variables)


def _keras(config: BertConfig, seq: int) -> Any:
    from tensorflow import keras
    from tensorflow.keras import layers

    width, heads = config.hidden_size, config.num_attention_heads
    ids, mask, types = (keras.Input((seq,), dtype="int32") for _ in range(3))
    x = layers.Embedding(config.vocab_size, width)(ids) + layers.Embedding(2, width)(types)
    x = x + layers.Embedding(config.max_position_embeddings, width)(keras.ops.arange(seq))
    x = layers.LayerNormalization(epsilon=1e-12)(x)
    seen = keras.ops.cast(mask, "bool")[:, None, :]
    for _ in range(config.num_hidden_layers):
        attention = layers.MultiHeadAttention(heads, config.head_size, flash_attention=False)
        x = layers.LayerNormalization(epsilon=1e-12)(x + attention(x, x, attention_mask=seen))
        inner = layers.Dense(config.intermediate_size)(x)
        inner = layers.Dense(width)(keras.ops.gelu(inner, approximate=True))
        x = layers.LayerNormalization(epsilon=1e-12)(x + inner)
    pooled = layers.Dense(width, activation="tanh")(x[:, 0])
    return keras.Model([ids, mask, types], layers.Dense(2)(pooled))


def measure(case: str, size: str, rounds: int, batch: int, seq: int) -> str:
    """A line: medians in milliseconds, and the ratio with its quartiles."""
    config: Any = SPEC.sizes[size]
    arrays = batch_of(config, batch, seq)
    mine, other = tensorflow(config, arrays) if case == "tensorflow" else pytorch(config, arrays, case)
    return against(case, mine, other, rounds)


def main() -> None:
    """Measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--size", choices=sorted(SPEC.sizes), default="bert-mini")
    for name, value in (("rounds", 30), ("batch", 8), ("seq", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    if asked.case:
        print(measure(asked.case, asked.size, asked.rounds, asked.batch, asked.seq), flush=True)
        return
    rest = [f"--{name}={getattr(asked, name)}" for name in ("size", "rounds", "batch", "seq")]
    for case in CASES:
        subprocess.run([sys.executable, __file__, "--case", case, *rest], check=True)


if __name__ == "__main__":
    main()

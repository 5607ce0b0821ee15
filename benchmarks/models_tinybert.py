"""TinyBERT's training step (loss and gradients, dropout off) against a public one, paired, on the CPU.

    python benchmarks/models_tinybert.py [--framework pytorch|tensorflow|mindspore] [--rounds N] [--batch B] [--seq S]

    pytorch     transformers' BertForSequenceClassification, eager attention on both sides
    tensorflow  the same layers from Keras, in one tf.function
    mindspore   mindspore.nn.TransformerEncoder, compiled to a graph; ModelZoo's own code is no package

The 4-layer student of width 312 classifies. Every round runs both one after the other, so a machine that drifts
drifts under both; the figure is the median of the rounds' ratios, this project's time to the other's.
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
from porting_tinybert.config import TinyBertConfig
from porting_tinybert.spec import SIZES, SPEC

Step = Callable[[], Any]
CONFIG: TinyBertConfig = SIZES["tinybert-4-312"]
BUILD = Build("classification", labels=2, mode="graph")


def batch_of(batch: int, seq: int) -> dict[str, np.ndarray[Any, Any]]:
    """Sentences of random length, as tasks have them."""
    random = np.random.default_rng(0)
    lengths = random.integers(seq // 2, seq + 1, (batch, 1))
    return {
        "input_ids": random.integers(0, CONFIG.vocab_size, (batch, seq), np.int32),
        "input_mask": (np.arange(seq) < lengths).astype(np.int32),
        "segment_ids": random.integers(0, 2, (batch, seq), np.int32),
        "label_ids": random.integers(0, 2, batch, np.int32),
    }


def pytorch(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Step, Step]:
    """This port, and transformers."""
    import torch
    import transformers

    tensors = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
    ours = SPEC.port("pytorch").build(CONFIG, BUILD).train()
    values = CONFIG.encoder.to_dict() | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    del values["model_type"]
    config = transformers.BertConfig(**values, attn_implementation="eager")
    theirs = transformers.BertForSequenceClassification(config).train()
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    call = {theirs_name: tensors[own] for theirs_name, own in names.items()} | {"labels": tensors["label_ids"]}

    def step(model: Any, loss: Callable[[], Any]) -> None:
        model.zero_grad()
        loss().backward()

    return lambda: step(ours, lambda: ours(tensors)["loss"]), lambda: step(theirs, lambda: theirs(**call).loss)


def tensorflow(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Step, Step]:
    """This port, and Keras."""
    import tensorflow as tf

    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    ours = SPEC.port("tensorflow").build(CONFIG, BUILD)
    theirs = _keras(arrays["input_ids"].shape[1])
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


def _keras(seq: int) -> Any:
    from tensorflow import keras
    from tensorflow.keras import layers

    width = CONFIG.hidden_size
    ids, mask, types = (keras.Input((seq,), dtype="int32") for _ in range(3))
    x = layers.Embedding(CONFIG.vocab_size, width)(ids) + layers.Embedding(2, width)(types)
    x = x + layers.Embedding(CONFIG.max_position_embeddings, width)(keras.ops.arange(seq))
    x = layers.LayerNormalization(epsilon=1e-12)(x)
    seen = keras.ops.cast(mask, "bool")[:, None, :]
    for _ in range(CONFIG.num_hidden_layers):
        heads = layers.MultiHeadAttention(
            CONFIG.num_attention_heads, width // CONFIG.num_attention_heads, flash_attention=False
        )
        x = layers.LayerNormalization(epsilon=1e-12)(x + heads(x, x, attention_mask=seen))
        inner = layers.Dense(CONFIG.intermediate_size, activation="gelu")(x)
        x = layers.LayerNormalization(epsilon=1e-12)(x + layers.Dense(width)(inner))
    pooled = layers.Dense(width, activation="tanh")(x[:, 0])
    return keras.Model([ids, mask, types], layers.Dense(2)(layers.ReLU()(pooled)))


def mindspore(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Step, Step]:
    """This port, and MindSpore's own encoder."""
    import mindspore as ms

    ours = SPEC.port("mindspore").build(CONFIG, BUILD)
    theirs = _native()
    tensors = {name: ms.Tensor(array) for name, array in arrays.items()}
    call = [tensors[name] for name in ours.features]
    place = ours.outputs.index("loss")

    def step(model: Any, loss: Callable[..., Any]) -> Step:
        model.set_train()
        run = ms.jit(ms.value_and_grad(loss, None, ms.ParameterTuple(model.trainable_params())))
        return lambda: float(run(*call)[0])

    def own(*features: Any) -> Any:
        return ours(*features)[place]

    def other(*features: Any) -> Any:
        return theirs(*features)

    return step(ours, own), step(theirs, other)


def _native() -> Any:
    import mindspore as ms
    from mindspore import nn, ops

    width = CONFIG.hidden_size

    class Native(nn.Cell):  # type: ignore[misc] # MindSpore ships no types
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(CONFIG.vocab_size, width)
            self.types = nn.Embedding(2, width)
            self.positions = nn.Embedding(CONFIG.max_position_embeddings, width)
            self.norm = nn.LayerNorm((width,), epsilon=1e-12)
            layer = nn.TransformerEncoderLayer(
                width, CONFIG.num_attention_heads, CONFIG.intermediate_size, 0.0, "gelu", 1e-12, batch_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, CONFIG.num_hidden_layers)
            self.dense = nn.Dense(width, width, activation="tanh")
            self.classifier = nn.Dense(width, 2)
            self.judge = nn.CrossEntropyLoss()

        def construct(self, ids: Any, mask: Any, types: Any, labels: Any) -> Any:
            places = ops.arange(ids.shape[1]).astype(ms.int32)
            x = self.norm(self.words(ids) + self.types(types) + self.positions(places))
            x = self.encoder(x, src_key_padding_mask=mask == 0)
            return self.judge(self.classifier(ops.relu(self.dense(x[:, 0]))), labels)

    return Native()


def measure(framework: str, rounds: int, batch: int, seq: int) -> str:
    """A line: medians in milliseconds, and the ratio with its quartiles."""
    mine, other = {"pytorch": pytorch, "tensorflow": tensorflow, "mindspore": mindspore}[framework](
        batch_of(batch, seq)
    )
    return against(framework, mine, other, rounds)


def main() -> None:
    """Measure each framework in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=["pytorch", "tensorflow", "mindspore"])
    for name, value in (("rounds", 15), ("batch", 8), ("seq", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    if asked.framework:
        print(measure(asked.framework, asked.rounds, asked.batch, asked.seq), flush=True)
        return
    numbers = [f"--{name}={getattr(asked, name)}" for name in ("rounds", "batch", "seq")]
    for framework in ("pytorch", "tensorflow", "mindspore"):
        subprocess.run([sys.executable, __file__, "--framework", framework, *numbers], check=True)


if __name__ == "__main__":
    main()

"""Weights and a batch that show mistakes in a port of TinyBERT: BERT's, for student and teacher."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from porting.model.probe import Arrays, Draw, Probe
from porting_bert.probe import BIASES, ENCODER, FROM_POOLED, FROM_STREAM, NORMS, STREAM, labels, text
from porting_tinybert.layout import layout

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_tinybert.config import TinyBertConfig

_FIT = (
    Draw("fit_dense.weight", 1.0, over=("hidden",)),
    Draw("fit_dense.bias", 0.3 * STREAM),
)


def probe(config: TinyBertConfig, build: Build) -> Probe:
    """Of a task's net."""
    classifier = FROM_STREAM if layout(config, build).student.head == "tokens" else FROM_POOLED
    return Probe((*ENCODER, *NORMS, *_FIT, classifier, BIASES), partial(_batch, config, build))


def _batch(config: TinyBertConfig, build: Build, random: np.random.Generator, batch: int, seq: int) -> Arrays:
    features = text(random, batch, seq, config.vocab_size, config.padding_idx or 0)
    return {**features, **labels(build.task, random, batch, seq, build.labels)}

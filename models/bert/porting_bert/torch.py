"""BERT and RoBERTa in PyTorch, under transformers' names.

google-research/bert modeling.py:BertModel at eedf571, whose arithmetic it keeps step by step: scores scaled, then
masked by -10000, then the softmax. In half precision, matrix products and what lies between them are in the half dtype;
LayerNorm, the softmax, logits and losses are in float32. Parameters are float32; with compute float64, all is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting.errors import UsageError
from porting_bert.spec import option
from porting_bert.torch_heads import Model, head

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig


def build(config: BertConfig, build: Build) -> Model:
    """A model for the task of `build`, freshly initialised.

    Build.extra: `attention` eager or sdpa (PyTorch's fused kernel, which has no scores to tap and takes no shared
        masks); `one_hot`: the word table is multiplied by one-hot ids, not gathered from.
    Raises: UsageError for a task that the model has not, or options that contradict each other.
    """
    if option(build, "attention", "eager", "sdpa") == "sdpa" and build.dropout.mode == "shared":
        raise UsageError("attention sdpa: takes no shared masks of dropout; attention eager does")
    return head(build.task, config.model_type)(config, build)

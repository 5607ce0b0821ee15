"""BERT under ModelZoo's names, and RoBERTa under the kit's own, in MindSpore: PyNative, or compiled to a graph.

google-research/bert modeling.py at eedf571, with its epsilon (MindSpore's LayerNorm has 1e-7) and its mask. In half
precision, matrix products and what lies between them are in the half dtype; LayerNorm, the softmax, logits and losses
are in float32. Parameters are float32 always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting.errors import UsageError
from porting_bert.mindspore_heads import Model, head

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig


def build(config: BertConfig, build: Build) -> Model:
    """A model for the task of `build`, freshly initialised.

    Build.extra: `taps`, the names of those it returns; `rows`, whether it takes zeros to add to gathered rows;
        `one_hot`: the word table is multiplied by one-hot ids, not gathered from.
    Raises: UsageError for a task or a tap that the model has not, or a dtype that the device has no kernels for.
    """
    if build.compute == "bfloat16" and build.device.startswith("cpu"):
        raise UsageError("compute bfloat16: MindSpore has no kernels for it on the CPU; float32 and float16 it has")
    return head(build.task, config.model_type)(config, build)

"""BERT under Google's names, and RoBERTa under the kit's own, in TensorFlow 2: eager, or traced by tf.function.

google-research/bert modeling.py at eedf571, operation by operation where rounding or the kind of a gradient depends on
it: the word table is gathered from (its gradient is IndexedSlices), positions are sliced, token types multiplied as
one-hot. In half precision, matrix products and what lies between them are in the half dtype; LayerNorm, the softmax,
logits and losses are in float32. Variables are float32 always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting_bert.tensorflow_heads import Model, head

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig


def build(config: BertConfig, build: Build) -> Model:
    """A model for the task of `build`, freshly initialised.

    Build.extra: `one_hot`: the word table is multiplied by one-hot ids, not gathered from
        (use_one_hot_embeddings of the original, its way on TPUs).
    Raises: UsageError for a task that the model has not.
    """
    return head(build.task, config.model_type)(config, build)

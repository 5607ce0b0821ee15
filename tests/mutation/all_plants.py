"""Every plant, and the mistakes that must be planted."""

from __future__ import annotations

import plants_bert
import plants_frameworks
import plants_tinybert
import plants_xlnet

PLANTS = (
    *plants_bert.PLANTS,
    *plants_tinybert.PLANTS,
    *plants_xlnet.PLANTS,
    *plants_frameworks.PLANTS,
)

ALL = (
    "square_untransposed",
    "query_key_swapped",
    "gamma_beta_swapped",
    "layer_missing",
    "layers_out_of_order",
    "embeddings_reversed",
    "token_types_off",
    "epsilon",
    "gelu_form",
    "mask_value",
    "mask_form",
    "softmax_scale",
    "missing_bias",
    "dropout_on",
    "positions_shifted",
    "pooler_token",
    "bias_correction",
    "decay_on_all",
    "clip_per_tensor",
    "loss_sum",
    "loss_scale_twice",
    "warmup_shifted",
    "labels_shifted",
    "float16_accumulation",
)
"""Of every family."""

SOME = {
    "relative_shift": ("xlnet",),
    "segment_matrix_dropped": ("xlnet",),
    "saturation": ("xlnet",),
    "decoder_untied": ("bert", "xlnet"),
}
"""Of those families only: BERT and TinyBERT have no relative positions; nothing in them reaches float16's largest
number; TinyBERT has no decoder.
"""


def family(plant):
    """Of what row of the counts a plant is."""
    return {"roberta": "bert"}.get(plant.model, plant.model)

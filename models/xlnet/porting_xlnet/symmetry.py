"""What may be reordered in XLNet without a change of what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting.model.symmetry import Part, Symmetry

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_xlnet.config import XLNetConfig

_LAYERS = (
    "layer.{layer}.rel_attn.{kernel[q k]} : hidden head match",
    "layer.{layer}.rel_attn.{kernel[v o]} : hidden head value",
    "layer.{layer}.rel_attn.{kernel[r]} : sine head match",
    "layer.{layer}.rel_attn.r_w_bias : head match",
    "layer.{layer}.rel_attn.r_r_bias : head match",
    "layer.{layer}.rel_attn.r_s_bias : head match",
    "layer.{layer}.rel_attn.seg_embed : segment head match",
)
"""Units that a query meets keys, positions and segments in, `match`, need not stand as those of the value do."""

_SUMMARY = (
    "sequence_summary.abs_attn.{kernel[q k]} : hidden summary_head summary_match",
    "sequence_summary.abs_attn.{kernel[v o]} : hidden summary_head summary_value",
)

_PROJECTED = (
    "sequence_summary.summary.weight : pooled hidden",
    "sequence_summary.summary.bias : pooled",
    "logits_proj.weight : labels pooled",
)

# The features of the span head are two hidden states, one after the other.
_SPAN = (
    "end_logits.dense_0.weight : ends (state hidden)",
    "end_logits.dense_0.bias : ends",
    "end_logits.LayerNorm.weight : ends",
    "end_logits.LayerNorm.bias : ends",
    "end_logits.dense_1.weight : 1 ends",
    "answer_class.dense_0.weight : answer (state hidden)",
    "answer_class.dense_0.bias : answer",
    "answer_class.dense_1.weight : 1 answer",
)

_FIXED = {
    "vocab": "ids of the batch and of labels count it",
    "labels": "labels of the batch count it",
    "segment": "the same segment stands before the other",
    "sine": "units of the sinusoid have their frequencies",
    "state": "one token's state stands before the other's",
}


def symmetry(config: XLNetConfig, build: Build) -> Symmetry:
    """Of a task's net. The biases without untie_r are one for all layers, and with them what they are added to."""
    hidden, heads, units = config.d_model, config.n_head, config.d_head
    sizes = {"hidden": hidden, "inner": config.d_inner, "head": heads, "match": units, "value": units}
    sizes |= {"summary_head": heads, "summary_match": units, "summary_value": units}
    sizes |= {"pooled": hidden, "ends": hidden, "answer": hidden}
    projects = build.extra.get("use_summ_proj", config.use_summ_proj)
    return Symmetry(
        dialect="kit_pt",
        parts=(Part(sizes),),
        cells=(*_LAYERS, *_SUMMARY, *(_PROJECTED if projects else ()), *_SPAN),
        fixed=_FIXED,
        throughout=("hidden",) if config.untie_r else ("hidden", "head", "match"),
        taps=("positions : batch position sine", *(("pooled : batch pooled",) if projects else ())),
    )

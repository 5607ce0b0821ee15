"""Masked-LM instances as the records that create_pretraining_data writes."""

from __future__ import annotations

from collections.abc import Callable

from porting.data.example import INT64_LIST, float_entry, int64_entry, joined, number_entry
from porting.data.instances import Instance, Plan
from porting.data.packed import pack
from porting.data.records import Encoder
from porting.data.schema import Column, Schema, integers
from porting.data.tfrecord import frame
from porting.data.tokenizing import Tokens


def instance_encoder(tokens: Tokens, plan: Plan) -> Callable[[Instance], bytes]:
    """Encodes an instance as a framed record."""
    sequence = Encoder(tokens.layout(plan.max_seq_length), regression=False)
    slots = plan.max_predictions
    weights = [float_entry("masked_lm_weights", [1.0] * n + [0.0] * (slots - n)) for n in range(slots + 1)]
    next_labels = [int64_entry("next_sentence_labels", (value,)) for value in (0, 1)]

    def padded(name: str, values: list[int]) -> bytes:
        return number_entry(name, INT64_LIST, pack(values) + bytes(slots - len(values)))

    def encode(instance: Instance) -> bytes:
        return frame(
            joined(
                sequence.ids(pack(instance.ids), len(instance.ids)),
                sequence.shape(instance.first, len(instance.ids)),
                padded("masked_lm_positions", instance.positions),
                padded("masked_lm_ids", instance.labels),
                weights[len(instance.positions)],
                next_labels[instance.random_next],
            )
        )

    return encode


def schema_of(plan: Plan) -> Schema:
    """The features of a record, in the script's order."""
    return (
        *integers(("input_ids", "input_mask", "segment_ids"), plan.max_seq_length),
        *integers(("masked_lm_positions", "masked_lm_ids"), plan.max_predictions),
        Column("masked_lm_weights", "float32", (plan.max_predictions,)),
        *integers(("next_sentence_labels",), 1),
    )

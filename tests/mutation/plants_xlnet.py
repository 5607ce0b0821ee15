# ruff: noqa: E501 - what is edited are lines of other sources
"""Plants in PyTorch's port of XLNet."""

from __future__ import annotations

from planted import made
from plants_shared import CHIEF, step

LAYERS, TRANSFORMER, HEADS = (f"porting_xlnet.torch_{name}" for name in ("layers", "transformer", "heads"))

_FROM_HEADS = "functional.linear(value.transpose(1, 2).flatten(2), weight.flatten(1).to(value.dtype))"
_TO_HEADS = "value @ weight.flatten(1).to(value.dtype)"
_KEYS = "keys = to_heads(seen, self.k),"
_CONTENT, _QUERY = "heads = to_heads(content, self.q)", "heads = to_heads(query, self.q)"
_LAYER = "for i, layer in enumerate(self.layer):"
_NORM = "self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)\n        self.layer_1"
_MASK = "score = score + mask"
_SCALE = "score = score * self.scale"
_SCORE = "score = self._biased(heads, self.r_w_bias) @ key.mT"
_TAP = 'score = run.tap(f"{layer}.attention.scores", score)'
_IN_1 = 'layer.startswith("layer.1")'

PRETRAINING = (
    (
        "square_untransposed",
        "output",
        LAYERS,
        {_FROM_HEADS: "value.transpose(1, 2).flatten(2) @ weight.flatten(1).to(value.dtype)"},
        CHIEF,
    ),
    (
        "square_untransposed",
        "query, key, value, position",
        LAYERS,
        {_TO_HEADS: "value @ weight.flatten(1).T.to(value.dtype)"},
    ),
    (
        "square_untransposed",
        "key",
        LAYERS,
        {_KEYS: "keys = (seen @ self.k.flatten(1).T).view(*seen.shape[:2], *self.k.shape[1:]).transpose(1, 2),"},
    ),
    (
        "square_untransposed",
        "heads and units",
        LAYERS,
        {_KEYS: "keys = to_heads(seen, self.k.view(self.k.shape[0], self.k.shape[2], self.k.shape[1]).mT),"},
    ),
    (
        "query_key_swapped",
        "everywhere",
        LAYERS,
        {
            _KEYS: _KEYS.replace("self.k", "self.q"),
            _CONTENT: _CONTENT.replace("self.q", "self.k"),
            _QUERY: _QUERY.replace("self.q", "self.k"),
        },
        CHIEF,
    ),
    (
        "query_key_swapped",
        "layer 1",
        LAYERS,
        {
            _KEYS: f"q, k = (self.k, self.q) if {_IN_1} else (self.q, self.k)\n        keys = to_heads(seen, k),",
            _CONTENT: "heads = to_heads(content, q)",
            _QUERY: "heads = to_heads(query, q)",
        },
    ),
    (
        "gamma_beta_swapped",
        "everywhere",
        LAYERS,
        {"self.weight, self.bias, self.eps)": "self.bias, self.weight, self.eps)"},
        CHIEF,
    ),
    (
        "gamma_beta_swapped",
        "feed-forward of layer 0",
        LAYERS,
        {
            "self.layer_norm(output + value))": 'self.layer_norm(output + value) if not layer.startswith("layer.0") else'
            " functional.layer_norm(output + value, (value.shape[-1],), self.layer_norm.bias, self.layer_norm.weight,"
            " self.layer_norm.eps))"
        },
    ),
    ("layer_missing", "last", TRANSFORMER, {_LAYER: "for i, layer in list(enumerate(self.layer))[:-1]:"}, CHIEF),
    ("layer_missing", "first", TRANSFORMER, {_LAYER: "for i, layer in list(enumerate(self.layer))[1:]:"}),
    (
        ("layer_missing", "layer_repeated"),
        "the first twice, not the second",
        TRANSFORMER,
        {_LAYER: "for i, layer in enumerate([self.layer[0]] * 2):"},
    ),
    (
        "layers_out_of_order",
        "reversed",
        TRANSFORMER,
        {_LAYER: "for i, layer in reversed(list(enumerate(self.layer))):"},
        CHIEF,
    ),
    (
        "layers_out_of_order",
        "reversed, numbered as they run",
        TRANSFORMER,
        {_LAYER: "for i, layer in enumerate(reversed(self.layer)):"},
    ),
    (
        "layers_out_of_order",
        "two of three",
        TRANSFORMER,
        {_LAYER: "for i, layer in [list(enumerate(self.layer))[n] for n in (0, 2, 1)]:"},
        {"config": (("n_layer", 3),)},
    ),
    (
        "embeddings_reversed",
        "all ids",
        TRANSFORMER,
        {"self.word_embedding(inputs.ids)": "self.word_embedding(self.config.n_token - 1 - inputs.ids)"},
        CHIEF,
    ),
    (
        "embeddings_reversed",
        "the first half of the ids",
        TRANSFORMER,
        {
            "self.word_embedding(inputs.ids)": "self.word_embedding(torch.where(inputs.ids < 25, 24 - inputs.ids, inputs.ids))"
        },
    ),
    (
        "embeddings_reversed",
        "in the softmax",
        HEADS,
        {"self.transformer.word_embedding.weight.to(": "self.transformer.word_embedding.weight.flip(0).to("},
    ),
    (
        ("token_types_off", "segment_matrix_dropped"),
        "inverted",
        TRANSFORMER,
        {"inputs.segments[:, :, None] != keys[:, None]": "inputs.segments[:, :, None] == keys[:, None]"},
        CHIEF,
    ),
    (
        "token_types_off",
        "all of one segment",
        TRANSFORMER,
        {
            "inputs.segments[:, :, None] != keys[:, None]": "torch.zeros_like(inputs.segments[:, :, None] != keys[:, None])"
        },
    ),
    (
        "token_types_off",
        "the last of a segment of its own is not",
        TRANSFORMER,
        {
            "keys = torch.cat((mems, inputs.segments), 1)\n    return (inputs.segments[:, :, None]": "segments = inputs.segments.clamp(max=1)\n    keys = torch.cat((mems, segments), 1)\n    return (segments[:, :, None]"
        },
    ),
    ("segment_matrix_dropped", "everywhere", LAYERS, {"if memory.differs is not None:": "if False:"}, CHIEF),
    ("segment_matrix_dropped", "in layer 1", LAYERS, {"if memory.differs is not None:": f"if not {_IN_1}:"}),
    (
        ("positions_shifted", "relative_shift"),
        "one too few",
        TRANSFORMER,
        {"place = klen - torch": "place = klen - 1 - torch"},
        CHIEF,
    ),
    (
        ("positions_shifted", "relative_shift"),
        "one too far",
        TRANSFORMER,
        {"place = klen - torch": "place = klen + 1 - torch"},
    ),
    (
        "positions_shifted",
        "the other direction",
        TRANSFORMER,
        {"directions = torch.stack((place, -place)) if config.bi_data else place[None]": "directions = -place[None]"},
    ),
    (
        ("relative_shift", "positions_shifted"),
        "the last column dropped",
        LAYERS,
        {"positions, qlen)[:, :, 1:]": "positions, qlen)[:, :, :-1]"},
        CHIEF,
    ),
    (
        ("relative_shift", "positions_shifted"),
        "one column late",
        LAYERS,
        {"positions - 1)[..., :klen]": "positions - 1)[..., 1 : klen + 1]"},
    ),
    (
        "relative_shift",
        "not shifted",
        LAYERS,
        {"return shifted.reshape(batch, heads, qlen, positions - 1)[..., :klen]": "return score[..., :klen]"},
    ),
    (
        "relative_shift",
        "in layer 1",
        LAYERS,
        {
            "relative_shift(self._biased(heads, self.r_r_bias) @ position.mT, key.shape[2])": f"(relative_shift(self._biased(heads, self.r_r_bias) @ position.mT, key.shape[2]).roll(1 if {_IN_1} else 0, -1))"
        },
    ),
    ("epsilon", "1e-5 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-5)"}),
    ("epsilon", "1e-7 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-7)"}, CHIEF),
    (
        "epsilon",
        "PyTorch's default in feed-forward",
        LAYERS,
        {_NORM: _NORM.replace(", eps=config.layer_norm_epsilon", "")},
    ),
    ("epsilon", "1e-7 in feed-forward", LAYERS, {_NORM: _NORM.replace("config.layer_norm_epsilon", "1e-7")}),
    ("gelu_form", "everywhere", LAYERS, {'partial(functional.gelu, approximate="tanh")': "functional.gelu"}, CHIEF),
    (
        "gelu_form",
        "in layer 1",
        LAYERS,
        {
            "self.activation(self.layer_1(value))": f"(functional.gelu if {_IN_1} else self.activation)(self.layer_1(value))"
        },
    ),
    ("activation", "relu", LAYERS, {'partial(functional.gelu, approximate="tanh")': "functional.relu"}),
    ("mask_value", "-1e4", LAYERS, {"MASKED = 1e30": "MASKED = 1e4"}, CHIEF),
    ("mask_value", "-1e9", LAYERS, {"MASKED = 1e30": "MASKED = 1e9"}),
    ("mask_value", "-65504", LAYERS, {"MASKED = 1e30": "MASKED = 65504.0"}),
    (
        "mask_value",
        "infinite",
        LAYERS,
        {"MASKED = 1e30": 'MASKED = float("inf")'},
        {
            "also": {
                TRANSFORMER: {
                    "-MASKED * mask[:, None].to(self.frequencies.dtype)": "torch.where(mask[:, None], -MASKED, 0.0)"
                }
            }
        },
    ),
    ("mask_form", "multiplied", LAYERS, {_MASK: "score = score * (mask == 0)"}, CHIEF),
    ("mask_form", "filled", LAYERS, {_MASK: "score = score.masked_fill(mask < 0, -1e4)"}),
    (
        "mask_unused",
        "permutation",
        TRANSFORMER,
        {"return (padding if inputs.permutation is None else padding + inputs.permutation) > 0": "return padding > 0"},
    ),
    (
        "mask_unused",
        "padding",
        TRANSFORMER,
        {
            "return (padding if inputs.permutation is None else padding + inputs.permutation) > 0": "return inputs.permutation > 0"
        },
    ),
    (
        "mask_form",
        "filled with -1e30",
        LAYERS,
        {_MASK: "score = score.masked_fill(mask < 0, -1e30)"},
        {"level": "L3"},  # the same numbers; but no gradient goes on from a row that sees nothing
    ),
    (
        "positions_shifted",
        "sines and cosines in turn",
        TRANSFORMER,
        {"torch.cat((angles.sin(), angles.cos()), -1)": "torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)"},
    ),
    (
        "float16_accumulation",
        "softmax",
        LAYERS,
        {"score.softmax(-1).to(heads.dtype)": "score.clamp(min=-6e4).half().softmax(-1).float()"},
    ),
    (
        "relative_shift",
        "two columns late",
        LAYERS,
        {"positions - 1)[..., :klen]": "positions - 1)[..., 2 : klen + 2]"},
        {"unnamed": "the catalogue has shifts by one"},
    ),
    (
        ("mask_unused", "mask_form"),
        "nowhere",
        LAYERS,
        {"if mask is not None:\n            # Added": "if False:\n            # Added"},
    ),
    ("mask_unused", "the content stream does not see itself", TRANSFORMER, {"hidden & (column != row)": "hidden"}),
    (
        "mask_unused",
        "the query stream sees itself",
        TRANSFORMER,
        {"for mask in (of_content, hidden))": "for mask in (of_content, of_content))"},
    ),
    (
        ("saturation", "mask_value", "mask_form"),
        "scores",
        LAYERS,
        {_TAP: _TAP.replace(", score)", ", score.clamp(-65504, 65504))")},
        CHIEF,
    ),
    (
        ("saturation", "mask_value", "mask_form"),
        "the mask",
        LAYERS,
        {_MASK: "score = score + mask.clamp(-65504, 65504)"},
    ),
    ("softmax_scale", "missing", LAYERS, {_SCALE: "score = score"}, CHIEF),
    ("softmax_scale", "x 0.97", LAYERS, {_SCALE: f"{_SCALE} * 0.97"}),
    ("softmax_scale", "missing in layer 1", LAYERS, {_SCALE: f"score = score * (1 if {_IN_1} else self.scale)"}),
    ("missing_bias", "r_w_bias", LAYERS, {"self._biased(heads, self.r_w_bias)": "heads"}, CHIEF),
    ("missing_bias", "r_r_bias", LAYERS, {"self._biased(heads, self.r_r_bias)": "heads"}),
    ("missing_bias", "r_s_bias", LAYERS, {"self._biased(heads, self.r_s_bias)": "heads"}),
    ("missing_bias", "feed-forward", LAYERS, {"value.dtype), bias)": "value.dtype))"}),
    (
        "missing_bias",
        "of the vocabulary",
        HEADS,
        {"wide(sequence @ table.T) + self.lm_loss.bias": "wide(sequence @ table.T)"},
    ),
    ("dropout_on", "everywhere", LAYERS, {'self.own = dropout.mode == "own" and training': "self.own = True"}, CHIEF),
    (
        "dropout_on",
        "attention",
        LAYERS,
        {
            'run.drop(f"{layer}.attention.probs", score.softmax(-1).to(heads.dtype), self.dropatt)': "functional.dropout(score.softmax(-1), self.dropatt)"
        },
    ),
    (
        "dropout_on",
        "the last output",
        TRANSFORMER,
        {
            'run.drop("sequence", content if query is None else query, self.config.dropout)': "nn.functional.dropout(content if query is None else query, self.config.dropout)"
        },
    ),
    (
        "float16_accumulation",
        "scores",
        LAYERS,
        {_SCORE: "score = (self._biased(heads, self.r_w_bias).half() @ key.mT.half()).float()"},
        CHIEF,
    ),
    (
        "float16_accumulation",
        "positions",
        LAYERS,
        {
            "relative_shift(self._biased(heads, self.r_r_bias) @ position.mT": "relative_shift((self._biased(heads, self.r_r_bias).half() @ position.mT.half()).float()"
        },
    ),
    (
        "float16_accumulation",
        "context",
        LAYERS,
        {"return weights @ value": "return (weights.half() @ value.half()).float()"},
    ),
    (
        "float16_accumulation",
        "denses",
        LAYERS,
        {
            "return functional.linear(value, self.weight.to(value.dtype), bias)": "return functional.linear(value.half(), self.weight.half(), bias.half()).float()"
        },
    ),
    ("float16_accumulation", "projections", LAYERS, {_TO_HEADS: "(value.half() @ weight.flatten(1).half()).float()"}),
    ("loss_sum", "over the targets", HEADS, {"(loss * counted).sum() / counted.sum()": "(loss * counted).sum()"}),
    ("loss_sum", "mean over all targets", HEADS, {"(loss * counted).sum() / counted.sum()": "(loss * counted).mean()"}),
    (
        "labels_shifted",
        "by one place",
        HEADS,
        {'_cross_entropy(logits, batch["target"])': '_cross_entropy(logits, batch["target"].roll(-1, 1))'},
        CHIEF,
    ),
    (
        "decoder_untied",
        "a copy that is not trained",
        HEADS,
        {"word_embedding.weight.to(sequence.dtype)": "word_embedding.weight.detach().to(sequence.dtype)"},
        {"level": "L3", **CHIEF},
    ),
    (
        "decoder_untied",
        "a copy made at the first call",
        HEADS,
        {
            "table = self.transformer.word_embedding.weight.to(sequence.dtype)": 'table = vars(self).setdefault("_kept", self.transformer.word_embedding.weight.detach().clone())'
        },
        {"level": "L3"},
    ),
)

CLASSIFICATION = (
    ("pooler_token", "first", HEADS, {"pooled = sequence[:, -1]": "pooled = sequence[:, 0]"}, CHIEF),
    ("pooler_token", "mean", HEADS, {"pooled = sequence[:, -1]": "pooled = sequence.mean(1)"}),
    ("pooler_token", "the last but one", HEADS, {"pooled = sequence[:, -1]": "pooled = sequence[:, -2]"}),
    (
        "square_untransposed",
        "of the summary",
        HEADS,
        {"self.summary(pooled).tanh()": "functional.linear(pooled, self.summary.weight.T, self.summary.bias).tanh()"},
    ),
    ("activation", "summary without tanh", HEADS, {"self.summary(pooled).tanh()": "self.summary(pooled)"}),
    (
        "missing_bias",
        "of the summary",
        HEADS,
        {"self.summary(pooled).tanh()": "functional.linear(pooled, self.summary.weight).tanh()"},
    ),
    (
        "loss_sum",
        "over the batch",
        HEADS,
        {'_cross_entropy(logits, batch["label_ids"])).mean()': '_cross_entropy(logits, batch["label_ids"])).sum()'},
        CHIEF,
    ),
    (
        "labels_shifted",
        "by one example",
        HEADS,
        {'_cross_entropy(logits, batch["label_ids"])': '_cross_entropy(logits, batch["label_ids"].roll(1))'},
    ),
)

PLANTS = (
    *made("xlnet", "pretraining", PRETRAINING),
    *made("xlnet", "classification", CLASSIFICATION),
    *step("xlnet", "pretraining", made),
)

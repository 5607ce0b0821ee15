"""The plants: the mistakes of PARITY's list in the sources of PyTorch's ports."""

from __future__ import annotations

from planted import Plant

_LAYERS, _BACKBONE, _HEADS = (f"porting_bert.torch_{name}" for name in ("layers", "backbone", "heads"))
_RECIPE, _TRAINING = "porting.backends.torch.recipe", "porting.backends.training"

_ENCODER = (
    (
        "square_untransposed",
        _BACKBONE,
        {
            'attention["output"]["dense"](context)': 'F.linear(context, attention["output"]["dense"].weight.T, attention["output"]["dense"].bias)'
        },
        "attention output",
    ),
    (
        "square_untransposed",
        _BACKBONE,
        {"(own[name](hidden).view": "(F.linear(hidden, own[name].weight.T, own[name].bias).view"},
        "query, key, value",
    ),
    (
        "query_key_swapped",
        _BACKBONE,
        {'for name in ("query", "key", "value"))\n        if': 'for name in ("key", "query", "value"))\n        if'},
        "",
    ),
    (
        "gamma_beta_swapped",
        _LAYERS,
        {"self.normalized_shape, self.weight, self.bias,": "self.normalized_shape, self.bias, self.weight,"},
        "",
    ),
    ("layer_missing", _BACKBONE, {"for layer in layers:": "for layer in layers[:-1]:"}, "last"),
    ("layer_missing", _BACKBONE, {"for layer in layers:": "for layer in layers[1:]:"}, "first"),
    ("layers_out_of_order", _BACKBONE, {"for layer in layers:": "for layer in reversed(layers):"}, ""),
    (
        "embeddings_reversed",
        _BACKBONE,
        {"run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(self.config.vocab_size - 1 - ids)"},
        "",
    ),
    (
        "token_types_off",
        _BACKBONE,
        {"F.embedding(types, table)": "F.embedding(torch.zeros_like(types), table)"},
        "all 0",
    ),
    ("token_types_off", _BACKBONE, {"F.embedding(types, table)": "F.embedding(1 - types, table)"}, "inverted"),
    ("positions_shifted", _BACKBONE, {"weight[: ids.shape[1]]": "weight[1 : ids.shape[1] + 1]"}, ""),
    ("epsilon", _LAYERS, {"self.bias, self.eps)": "self.bias, 1e-5)"}, "1e-5 everywhere"),
    ("epsilon", _LAYERS, {"self.bias, self.eps)": "self.bias, 1e-7)"}, "1e-7 everywhere"),
    (
        "epsilon",
        _BACKBONE,
        {
            "norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)": "norm = LayerNorm(config.hidden_size, eps=1e-7)"
        },
        "1e-7 in layers",
    ),
    (
        "epsilon",
        _BACKBONE,
        {
            "self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)": "self.LayerNorm = LayerNorm(config.hidden_size)"
        },
        "PyTorch's default in embeddings",
    ),
    ("mask_value", _BACKBONE, {"* -10000.0": "* -1e9"}, "-1e9"),
    (
        "mask_form",
        _BACKBONE,
        {"scores if adder is None else scores + adder": "scores if adder is None else scores * (adder == 0)"},
        "multiplied",
    ),
    (
        "mask_form",
        _BACKBONE,
        {
            "scores if adder is None else scores + adder": "scores if adder is None else scores.masked_fill(adder < 0, -10000.0)"
        },
        "filled",
    ),
    ("mask_unused", _BACKBONE, {"scores if adder is None else scores + adder": "scores"}, "not added"),
    ("softmax_scale", _BACKBONE, {"* size**-0.5": ""}, "missing"),
    ("softmax_scale", _BACKBONE, {"* size**-0.5": "* size**-0.5 * 0.97"}, "x 0.97"),
    (
        "missing_bias",
        _BACKBONE,
        {'intermediate["dense"](hidden)': 'F.linear(hidden, intermediate["dense"].weight)'},
        "inner",
    ),
    ("missing_bias", _LAYERS, {", self.bias.to(input.dtype))": ")"}, "all denses"),
    (
        "dropout_on",
        _LAYERS,
        {
            'if self.mode == "own":\n            return F.dropout(value, rate)': "if rate:\n            return F.dropout(value, rate)"
        },
        "",
    ),
    (
        "float16_accumulation",
        _BACKBONE,
        {"wide(query @ key.transpose(2, 3))": "(query.half() @ key.transpose(2, 3).half()).float()"},
        "scores",
    ),
    (
        "float16_accumulation",
        _LAYERS,
        {
            "F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))": "F.linear(input.half(), self.weight.half(), self.bias.half()).float()"
        },
        "denses",
    ),
)

_STEP = (
    ("bias_correction", "porting.model.update", {"if not recipe.bias_correction:": "if False:"}, "L4", ""),
    (
        "decay_on_all",
        _RECIPE,
        {"[treatment.decay for treatment in trained.treatments]": "[recipe.weight_decay for _ in trained.treatments]"},
        "L4",
        "",
    ),
    ("clip_per_tensor", _RECIPE, {'if clip.kind == "per_tensor":': 'if clip.kind != "none":'}, "L4", ""),
    ("loss_scale_twice", _RECIPE, {"{i: grad * unscale for": "{i: grad * unscale * unscale for"}, "L4", ""),
    ("warmup_shifted", _TRAINING, {"rates(recipe, self.updates)": "rates(recipe, self.updates + 1)"}, "L4", ""),
)


def _also(name):
    """Moments are corrected in two places."""
    return {_RECIPE: {"if recipe.bias_correction:": "if True:"}} if name == "bias_correction" else {}


BERT = (
    *(Plant(name, "bert", "classification", module, edits, note=note) for name, module, edits, note in _ENCODER),
    Plant("gelu_form", "bert", "classification", _LAYERS, {'partial(F.gelu, approximate="tanh")': "F.gelu"}),
    Plant(
        "pooler_token", "bert", "classification", _BACKBONE, {"sequence[:, 0])))": "sequence[:, -1])))"}, note="last"
    ),
    Plant(
        "pooler_token", "bert", "classification", _BACKBONE, {"sequence[:, 0])))": "sequence.mean(1))))"}, note="mean"
    ),
    Plant(
        "loss_sum",
        "bert",
        "classification",
        _HEADS,
        {'F.cross_entropy(outputs["logits"], ids)': 'F.cross_entropy(outputs["logits"], ids, reduction="sum")'},
    ),
    Plant(
        "labels_shifted",
        "bert",
        "classification",
        _HEADS,
        {'F.cross_entropy(outputs["logits"], ids)': 'F.cross_entropy(outputs["logits"], ids.roll(1))'},
    ),
    Plant(
        "labels_shifted",
        "bert",
        "pretraining",
        _HEADS,
        {"ids.flatten(), reduction": "ids.roll(-1, 1).flatten(), reduction"},
    ),
    Plant(
        "decoder_untied",
        "bert",
        "pretraining",
        _HEADS,
        {
            "backbone.embeddings.word_embeddings.weight, transformed.dtype": "backbone.embeddings.word_embeddings.weight.detach().clone(), transformed.dtype"
        },
        level="L3",
    ),
    Plant(
        "gradients_scaled",
        "bert",
        "classification",
        "porting.backends.torch.run",
        {"loss if scale == 1 else loss * scale, wrt": "loss * scale * len(batch['input_ids']), wrt"},
        level="L3",
    ),
    *(
        Plant(name, "bert", "classification", module, edits, level, note, also=_also(name))
        for name, module, edits, level, note in _STEP
    ),
)

_TINY = "porting_tinybert.torch"

TINYBERT = (
    *(Plant(name, "tinybert", "classification", module, edits, note=note) for name, module, edits, note in _ENCODER),
    Plant(
        "gelu_form",
        "tinybert",
        "general_distill",
        _LAYERS,
        {'"gelu_erf": F.gelu': '"gelu_erf": partial(F.gelu, approximate="tanh")'},
    ),
    Plant("epsilon", "tinybert", "general_distill", _LAYERS, {"self.bias, self.eps)": "self.bias, 1e-7)"}),
    Plant(
        "pooler_token",
        "tinybert",
        "classification",
        _BACKBONE,
        {"sequence[:, 0])))": "sequence[:, -1])))"},
        note="last",
    ),
    Plant(
        "loss_sum",
        "tinybert",
        "classification",
        _TINY,
        {"return total / (labels != IGNORED).sum().clamp(min=1)": "return total"},
    ),
    Plant(
        "loss_sum",
        "tinybert",
        "task_distill_2",
        _TINY,
        {"dim=-1)).mean()": "dim=-1)).sum(-1).mean()"},
        note="batchmean",
    ),
    Plant(
        "labels_shifted",
        "tinybert",
        "classification",
        _TINY,
        {"labels.flatten(), ignore_index": "labels.roll(1).flatten(), ignore_index"},
    ),
    *(
        Plant(name, "tinybert", "classification", module, edits, level, note, also=_also(name))
        for name, module, edits, level, note in _STEP
    ),
)

_XL, _XT, _XH = (f"porting_xlnet.torch_{name}" for name in ("layers", "transformer", "heads"))

XLNET = (
    *(
        Plant(name, "xlnet", task, module, edits, level, note)
        for name, task, module, edits, level, note in (
            (
                "square_untransposed",
                "pretraining",
                _XL,
                {
                    "functional.linear(value.transpose(1, 2).flatten(2), weight.flatten(1).to(value.dtype))": "value.transpose(1, 2).flatten(2) @ weight.flatten(1).to(value.dtype)"
                },
                "L2",
                "output",
            ),
            (
                "square_untransposed",
                "pretraining",
                _XL,
                {"value @ weight.flatten(1).to(value.dtype)": "value @ weight.flatten(1).T.to(value.dtype)"},
                "L2",
                "query, key, value, position",
            ),
            (
                "query_key_swapped",
                "pretraining",
                _XL,
                {
                    "keys = to_heads(seen, self.k),": "keys = to_heads(seen, self.q),",
                    "heads = to_heads(content, self.q)": "heads = to_heads(content, self.k)",
                    "heads = to_heads(query, self.q)": "heads = to_heads(query, self.k)",
                },
                "L2",
                "",
            ),
            (
                "gamma_beta_swapped",
                "pretraining",
                _XL,
                {"self.normalized_shape, self.weight, self.bias,": "self.normalized_shape, self.bias, self.weight,"},
                "L2",
                "",
            ),
            (
                "layer_missing",
                "pretraining",
                _XT,
                {"for i, layer in enumerate(self.layer):": "for i, layer in list(enumerate(self.layer))[:-1]:"},
                "L2",
                "last",
            ),
            (
                "layers_out_of_order",
                "pretraining",
                _XT,
                {"for i, layer in enumerate(self.layer):": "for i, layer in reversed(list(enumerate(self.layer))):"},
                "L2",
                "",
            ),
            (
                "embeddings_reversed",
                "pretraining",
                _XT,
                {"self.word_embedding(inputs.ids)": "self.word_embedding(self.config.n_token - 1 - inputs.ids)"},
                "L2",
                "",
            ),
            (
                ("token_types_off", "segment_matrix_dropped"),
                "pretraining",
                _XT,
                {"inputs.segments[:, :, None] != keys[:, None]": "inputs.segments[:, :, None] == keys[:, None]"},
                "L2",
                "inverted",
            ),
            ("segment_matrix_dropped", "pretraining", _XL, {"if memory.differs is not None:": "if False:"}, "L2", ""),
            (
                ("positions_shifted", "relative_shift"),
                "pretraining",
                _XT,
                {"place = klen - torch": "place = klen - 1 - torch"},
                "L2",
                "",
            ),
            (
                ("relative_shift", "positions_shifted"),
                "pretraining",
                _XL,
                {"positions, qlen)[:, :, 1:]": "positions, qlen)[:, :, :-1]"},
                "L2",
                "no row dropped",
            ),
            (
                ("relative_shift", "positions_shifted"),
                "pretraining",
                _XL,
                {"positions - 1)[..., :klen]": "positions - 1)[..., 1 : klen + 1]"},
                "L2",
                "one column late",
            ),
            ("epsilon", "pretraining", _XL, {"self.bias, self.eps)": "self.bias, 1e-5)"}, "L2", "1e-5"),
            ("epsilon", "pretraining", _XL, {"self.bias, self.eps)": "self.bias, 1e-7)"}, "L2", "1e-7"),
            (
                "gelu_form",
                "pretraining",
                _XL,
                {'partial(functional.gelu, approximate="tanh")': "functional.gelu"},
                "L2",
                "",
            ),
            ("mask_value", "pretraining", _XL, {"MASKED = 1e30": "MASKED = 1e4"}, "L2", "-1e4"),
            ("mask_value", "pretraining", _XL, {"MASKED = 1e30": "MASKED = 1e9"}, "L2", "-1e9"),
            (
                "mask_form",
                "pretraining",
                _XL,
                {"score = score + mask": "score = score * (mask == 0)"},
                "L2",
                "multiplied",
            ),
            (
                ("saturation", "mask_value", "mask_form"),
                "pretraining",
                _XL,
                {
                    'score = run.tap(f"{layer}.attention.scores", score)': 'score = run.tap(f"{layer}.attention.scores", score.clamp(-65504, 65504))'
                },
                "L2",
                "",
            ),
            ("softmax_scale", "pretraining", _XL, {"score = score * self.scale": "score = score"}, "L2", "missing"),
            (
                "softmax_scale",
                "pretraining",
                _XL,
                {"score = score * self.scale": "score = score * self.scale * 0.97"},
                "L2",
                "x 0.97",
            ),
            ("missing_bias", "pretraining", _XL, {"self._biased(heads, self.r_w_bias)": "heads"}, "L2", "r_w_bias"),
            ("missing_bias", "pretraining", _XL, {"value.dtype), bias)": "value.dtype))"}, "L2", "feed-forward"),
            (
                "dropout_on",
                "pretraining",
                _XL,
                {'self.own = dropout.mode == "own" and training': "self.own = True"},
                "L2",
                "",
            ),
            (
                "pooler_token",
                "classification",
                _XH,
                {"pooled = sequence[:, -1]": "pooled = sequence[:, 0]"},
                "L2",
                "first",
            ),
            (
                "loss_sum",
                "classification",
                _XH,
                {
                    '_cross_entropy(logits, batch["label_ids"])).mean()': '_cross_entropy(logits, batch["label_ids"])).sum()'
                },
                "L2",
                "",
            ),
            (
                "loss_sum",
                "pretraining",
                _XH,
                {"(loss * counted).sum() / counted.sum()": "(loss * counted).sum()"},
                "L2",
                "",
            ),
            (
                "labels_shifted",
                "pretraining",
                _XH,
                {'_cross_entropy(logits, batch["target"])': '_cross_entropy(logits, batch["target"].roll(-1, 1))'},
                "L2",
                "",
            ),
            (
                "decoder_untied",
                "pretraining",
                _XH,
                {"word_embedding.weight.to(sequence.dtype)": "word_embedding.weight.detach().to(sequence.dtype)"},
                "L3",
                "",
            ),
            (
                "float16_accumulation",
                "pretraining",
                _XL,
                {
                    "self._biased(heads, self.r_w_bias) @ key.mT": "(self._biased(heads, self.r_w_bias).half() @ key.mT.half()).float()"
                },
                "L2",
                "scores",
            ),
        )
    ),
    *(
        Plant(name, "xlnet", "pretraining", module, edits, level, note, also=_also(name))
        for name, module, edits, level, note in _STEP
    ),
)

PLANTS = (*BERT, *TINYBERT, *XLNET)

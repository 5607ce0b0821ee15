# ruff: noqa: E501 - what is edited are lines of other sources
"""Plants in what BERT and TinyBERT share in PyTorch, and in the training of all models."""

from __future__ import annotations

LAYERS, BACKBONE = "porting_bert.torch_layers", "porting_bert.torch_backbone"
RECIPE, TRAINING, UPDATE = "porting.backends.torch.recipe", "porting.backends.training", "porting.model.update"
RUN, SCHEDULE = "porting.backends.torch.run", "porting.model.schedule"

_PROJECT = "(own[name](hidden).view(heads)"
_NAMES = 'for name in ("query", "key", "value"))\n        if'
_SCORES = "scores if adder is None else scores + adder"
_ADDER = "(1.0 - mask[:, None, None, :].to(wanted)) * -10000.0"
_NORM = "return F.layer_norm(wide(input), self.normalized_shape, self.weight, self.bias, self.eps)"
_JOINT = "norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)"
_FIRST = "self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)"
_DENSE = "F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))"
_PRODUCT = "wide(query @ key.transpose(2, 3))"
_ACTIVATE = "self.activate = activation(config.hidden_act)"
_SITE = "layer.1"

CHIEF = {"chief": True}

WEIGHTS = (
    (
        "square_untransposed",
        "attention output",
        BACKBONE,
        {
            'attention["output"]["dense"](context)': 'F.linear(context, attention["output"]["dense"].weight.T,'
            ' attention["output"]["dense"].bias)'
        },
        CHIEF,
    ),
    (
        "square_untransposed",
        "query, key and value",
        BACKBONE,
        {_PROJECT: "(F.linear(hidden, own[name].weight.T, own[name].bias).view(heads)"},
    ),
    (
        "square_untransposed",
        "key of layer 1",
        BACKBONE,
        {
            _PROJECT: '(F.linear(hidden, own[name].weight.T if (name, self.site) == ("key", "layer.1")'
            " else own[name].weight, own[name].bias).view(heads)"
        },
    ),
    (
        "square_untransposed",
        "pooler",
        BACKBONE,
        {
            'self.pooler["dense"](sequence[:, 0])': 'F.linear(sequence[:, 0], self.pooler["dense"].weight.T, self.pooler["dense"].bias)'
        },
    ),
    ("query_key_swapped", "everywhere", BACKBONE, {_NAMES: _NAMES.replace('"query", "key"', '"key", "query"')}, CHIEF),
    (
        "query_key_swapped",
        "layer 1",
        BACKBONE,
        {
            _NAMES: 'for name in (("key", "query", "value") if self.site == "layer.1" else ("query", "key", "value")))\n        if'
        },
    ),
    (
        "query_key_swapped",
        "weights without biases",
        BACKBONE,
        {
            _PROJECT: '(F.linear(hidden, own[{"query": "key", "key": "query"}.get(name, name)].weight, own[name].bias).view(heads)'
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
        "embeddings",
        BACKBONE,
        {
            "self.LayerNorm(words + kinds + positions)": "F.layer_norm(words + kinds + positions, (words.shape[-1],),"
            " self.LayerNorm.bias, self.LayerNorm.weight, self.LayerNorm.eps)"
        },
    ),
    (
        "gamma_beta_swapped",
        "output of layer 0",
        BACKBONE,
        {
            'output["LayerNorm"](widened + hidden)': 'output["LayerNorm"](widened + hidden) if site != "layer.0" else'
            ' F.layer_norm(widened + hidden, (hidden.shape[-1],), output["LayerNorm"].bias,'
            ' output["LayerNorm"].weight, output["LayerNorm"].eps)'
        },
    ),
    (
        "embeddings_reversed",
        "all ids",
        BACKBONE,
        {"run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(self.config.vocab_size - 1 - ids)"},
        CHIEF,
    ),
    (
        "embeddings_reversed",
        "the first half of the ids",
        BACKBONE,
        {"run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(torch.where(ids < 25, 24 - ids, ids))"},
    ),
    (
        "embeddings_reversed",
        "all ids but the first",
        BACKBONE,
        {
            "run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(torch.where(ids > 0,"
            " self.config.vocab_size - ids, ids))"
        },
    ),
    (
        "embeddings_reversed",
        "units of each row",
        BACKBONE,
        {"run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(ids).flip(-1)"},
    ),
    (
        "missing_bias",
        "inner",
        BACKBONE,
        {'intermediate["dense"](hidden)': 'F.linear(hidden, intermediate["dense"].weight)'},
        CHIEF,
    ),
    ("missing_bias", "all denses", LAYERS, {", self.bias.to(input.dtype))": ")"}),
    (
        "missing_bias",
        "value",
        BACKBONE,
        {_PROJECT: '(F.linear(hidden, own[name].weight, None if name == "value" else own[name].bias).view(heads)'},
    ),
    (
        "missing_bias",
        "query of layer 1",
        BACKBONE,
        {
            _PROJECT: '(F.linear(hidden, own[name].weight, None if (name, self.site) == ("query", "layer.1")'
            " else own[name].bias).view(heads)"
        },
    ),
    (
        "missing_bias",
        "attention output",
        BACKBONE,
        {'attention["output"]["dense"](context)': 'F.linear(context, attention["output"]["dense"].weight)'},
    ),
    (
        "missing_bias",
        "of all LayerNorms",
        LAYERS,
        {"self.weight, self.bias, self.eps)": "self.weight, None, self.eps)"},
    ),
    (
        "missing_bias",
        "pooler",
        BACKBONE,
        {'self.pooler["dense"](sequence[:, 0])': 'F.linear(sequence[:, 0], self.pooler["dense"].weight)'},
    ),
)

GRAPH = (
    ("layer_missing", "last", BACKBONE, {"for layer in layers:": "for layer in layers[:-1]:"}, CHIEF),
    ("layer_missing", "first", BACKBONE, {"for layer in layers:": "for layer in layers[1:]:"}),
    (
        "layer_missing",
        "the middle of three",
        BACKBONE,
        {"for layer in layers:": "for layer in (layers[0], layers[2]):"},
        {"config": (("num_hidden_layers", 3),)},
    ),
    (
        ("layer_missing", "layer_repeated"),
        "the first twice, not the second",
        BACKBONE,
        {"for layer in layers:": "for layer in (layers[0], layers[0]):"},
    ),
    ("layers_out_of_order", "reversed", BACKBONE, {"for layer in layers:": "for layer in reversed(layers):"}, CHIEF),
    (
        "layers_out_of_order",
        "two of three",
        BACKBONE,
        {"for layer in layers:": "for layer in (layers[0], layers[2], layers[1]):"},
        {"config": (("num_hidden_layers", 3),)},
    ),
    (
        "layers_out_of_order",
        "the last first",
        BACKBONE,
        {"for layer in layers:": "for layer in (layers[2], layers[0], layers[1]):"},
        {"config": (("num_hidden_layers", 3),)},
    ),
    (
        "token_types_off",
        "all 0",
        BACKBONE,
        {"F.embedding(types, table)": "F.embedding(torch.zeros_like(types), table)"},
        CHIEF,
    ),
    ("token_types_off", "all 1", BACKBONE, {"F.embedding(types, table)": "F.embedding(torch.ones_like(types), table)"}),
    ("token_types_off", "inverted", BACKBONE, {"F.embedding(types, table)": "F.embedding(1 - types, table)"}),
    ("token_types_off", "not added", BACKBONE, {"words + kinds + positions": "words + positions"}),
    (
        "token_types_off",
        "those of the next token",
        BACKBONE,
        {"F.embedding(types, table)": "F.embedding(types.roll(-1, 1), table)"},
    ),
    ("positions_shifted", "one too far", BACKBONE, {"weight[: ids.shape[1]]": "weight[1 : ids.shape[1] + 1]"}, CHIEF),
    (
        "positions_shifted",
        "one too few",
        BACKBONE,
        {"weight[: ids.shape[1]]": "weight.roll(1, 0)[: ids.shape[1]]"},
    ),
    (
        "positions_shifted",
        "RoBERTa's, two too far",
        BACKBONE,
        {"weight[: ids.shape[1]]": "weight[2 : ids.shape[1] + 2]"},
    ),
    (
        "positions_shifted",
        "the first row twice",
        BACKBONE,
        {"weight[: ids.shape[1]]": "weight[(torch.arange(ids.shape[1]) - 1).clamp(min=0)]"},
    ),
    ("positions_shifted", "not added", BACKBONE, {"words + kinds + positions": "words + kinds"}),
    ("mask_value", "-1e9", BACKBONE, {"* -10000.0": "* -1e9"}, CHIEF),
    ("mask_value", "the smallest float32", BACKBONE, {"* -10000.0": "* torch.finfo(torch.float32).min"}),
    ("mask_value", "-65504", BACKBONE, {"* -10000.0": "* -65504.0"}),
    ("mask_value", "-1000", BACKBONE, {"* -10000.0": "* -1000.0"}),
    (
        "mask_value",
        "-1e9 in layer 1",
        BACKBONE,
        {_SCORES: '(scores if adder is None else scores + adder * (1e5 if self.site == "layer.1" else 1))'},
    ),
    ("mask_form", "multiplied", BACKBONE, {_SCORES: "scores if adder is None else scores * (adder == 0)"}, CHIEF),
    (
        "mask_form",
        "multiplied in layer 1",
        BACKBONE,
        {_SCORES: '(scores * (adder == 0) if self.site == "layer.1" else scores + adder)'},
    ),
    (
        "mask_form",
        "filled",
        BACKBONE,
        {_SCORES: "scores if adder is None else scores.masked_fill(adder < 0, -10000.0)"},
    ),
    (
        "mask_form",
        "filled with -1e9",
        BACKBONE,
        {_SCORES: "scores if adder is None else scores.masked_fill(adder < 0, -1e9)"},
    ),
    (("mask_unused", "mask_form"), "not added", BACKBONE, {_SCORES: "scores"}),
    (
        ("mask_unused", "mask_form"),
        "not added in layer 0",
        BACKBONE,
        {_SCORES: '(scores if self.site == "layer.0" else scores + adder)'},
    ),
    ("mask_unused", "inverted", BACKBONE, {_ADDER: "mask[:, None, None, :].to(wanted) * -10000.0"}),
    ("mask_unused", "of queries", BACKBONE, {_ADDER: "(1.0 - mask[:, None, :, None].to(wanted)) * -10000.0"}),
    ("softmax_scale", "missing", BACKBONE, {"* size**-0.5": ""}, CHIEF),
    ("softmax_scale", "x 0.97", BACKBONE, {"* size**-0.5": "* size**-0.5 * 0.97"}),
    ("softmax_scale", "of the hidden size", BACKBONE, {"* size**-0.5": "* width**-0.5"}),
    ("softmax_scale", "twice", BACKBONE, {"* size**-0.5": "/ size"}),
    (
        "softmax_scale",
        "missing in layer 1",
        BACKBONE,
        {"* size**-0.5": '* (1 if self.site == "layer.1" else size**-0.5)'},
    ),
    (
        ("softmax_scale", "mask_value"),
        "of mask and scores",
        BACKBONE,
        {"* size**-0.5": "", _SCORES: "(scores if adder is None else scores + adder) * size**-0.5"},
    ),
    ("pooler_token", "last", BACKBONE, {"sequence[:, 0])))": "sequence[:, -1])))"}, CHIEF),
    ("pooler_token", "mean", BACKBONE, {"sequence[:, 0])))": "sequence.mean(1))))"}),
    ("pooler_token", "the second", BACKBONE, {"sequence[:, 0])))": "sequence[:, 1])))"}),
    (
        "pooler_token",
        "the middle",
        BACKBONE,
        {"sequence[:, 0])))": "sequence[:, sequence.shape[1] // 2])))"},
        {"unnamed": "the catalogue has the first two, the last and all together"},
    ),
    ("pooler_token", "maximum", BACKBONE, {"sequence[:, 0])))": "sequence.amax(1))))"}),
    (
        "activation",
        "pooler without tanh",
        BACKBONE,
        {'torch.tanh(self.pooler["dense"](sequence[:, 0]))': 'self.pooler["dense"](sequence[:, 0])'},
    ),
)

SETTINGS = (
    ("epsilon", "1e-5 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-5)"}),
    ("epsilon", "1e-7 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-7)"}, CHIEF),
    ("epsilon", "1e-6 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-6)"}),
    ("epsilon", "1e-7 in layers", BACKBONE, {_JOINT: _JOINT.replace("config.layer_norm_eps", "1e-7")}),
    (
        "epsilon",
        "PyTorch's default in embeddings",
        BACKBONE,
        {_FIRST: "self.LayerNorm = LayerNorm(config.hidden_size)"},
    ),
    ("epsilon", "1e-7 in embeddings", BACKBONE, {_FIRST: _FIRST.replace("config.layer_norm_eps", "1e-7")}),
    (
        "epsilon",
        "1e-7 in one LayerNorm",
        BACKBONE,
        {
            'output["LayerNorm"](widened + hidden)': 'output["LayerNorm"](widened + hidden) if site != "layer.1" else'
            ' F.layer_norm(widened + hidden, (hidden.shape[-1],), output["LayerNorm"].weight,'
            ' output["LayerNorm"].bias, 1e-7)'
        },
    ),
    (
        "epsilon",
        "beside the root",
        LAYERS,
        {
            _NORM: "x = wide(input)\n        x = x - x.mean(-1, keepdim=True)\n        return (x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6) * self.weight + self.bias)"
        },
    ),
    (
        "activation",
        "relu in layer 1",
        BACKBONE,
        {_ACTIVATE: 'self.activate = activation("relu" if index == 1 else config.hidden_act)'},
    ),
    (
        "activation",
        "gelu by a sigmoid",
        BACKBONE,
        {_ACTIVATE: "self.activate = lambda x: x * torch.sigmoid(1.702 * x)"},
    ),
    (
        "epsilon",
        "3e-6 everywhere",
        LAYERS,
        {"self.bias, self.eps)": "self.bias, 3e-6)"},
        {"unnamed": "the catalogue has powers of ten"},
    ),
    ("epsilon", "1e-4 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-4)"}),
    (
        "variance_unbiased",
        "everywhere",
        LAYERS,
        {
            _NORM: "x = wide(input)\n        return ((x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias)"
        },
    ),
    ("float16_accumulation", "softmax", BACKBONE, {"scores.softmax(-1)": "scores.half().softmax(-1).float()"}),
    (
        "float16_accumulation",
        "LayerNorm",
        LAYERS,
        {
            _NORM: "return F.layer_norm(wide(input).half(), self.normalized_shape, self.weight.half(), self.bias.half(), self.eps).float()"
        },
    ),
    (
        "dropout_on",
        "everywhere",
        LAYERS,
        {
            'if self.mode == "own":\n            return F.dropout(value, rate)': "if rate:\n            return F.dropout(value, rate)"
        },
        CHIEF,
    ),
    (
        "dropout_on",
        "attention",
        BACKBONE,
        {'run.drop(f"{self.site}.attention.probs", scores.softmax(-1), rate)': "F.dropout(scores.softmax(-1), rate)"},
    ),
    (
        "dropout_on",
        "embeddings",
        BACKBONE,
        {'run.drop("embeddings", total.to(run.dtype), self': 'run.drop("embeddings", F.dropout(total, 0.1), self'},
    ),
    (
        "dropout_on",
        "feed-forward of layer 1",
        BACKBONE,
        {'run.drop(f"{site}.ffn.output", widened, rate)': 'F.dropout(widened, rate if site == "layer.1" else 0.0)'},
    ),
    (
        "float16_accumulation",
        "scores",
        BACKBONE,
        {_PRODUCT: "(query.half() @ key.transpose(2, 3).half()).float()"},
        CHIEF,
    ),
    (
        "float16_accumulation",
        "scores of layer 1",
        BACKBONE,
        {
            _PRODUCT: '((query.half() @ key.transpose(2, 3).half()).float() if self.site == "layer.1" else query @ key.transpose(2, 3))'
        },
    ),
    (
        "float16_accumulation",
        "scores in bfloat16",
        BACKBONE,
        {_PRODUCT: "(query.bfloat16() @ key.transpose(2, 3).bfloat16()).float()"},
    ),
    (
        "float16_accumulation",
        "context",
        BACKBONE,
        {"probs.to(value.dtype) @ value": "(probs.half() @ value.half()).float()"},
    ),
    (
        "float16_accumulation",
        "probabilities",
        BACKBONE,
        {"probs.to(value.dtype) @ value": "probs.half().float() @ value"},
    ),
    (
        "float16_accumulation",
        "denses",
        LAYERS,
        {_DENSE: "F.linear(input.half(), self.weight.half(), self.bias.half()).float()"},
    ),
    (
        "float16_accumulation",
        "denses, bias in float32",
        LAYERS,
        {_DENSE: "F.linear(input.half(), self.weight.half()).float() + self.bias"},
    ),
    (
        "float16_accumulation",
        "a sum that is rounded at each term",
        BACKBONE,
        {
            _PRODUCT: "sum_of((query[..., i, None].half() * key[..., None, :, i].half()) for i in range(size)).float()",
            "class Embeddings(nn.Module):": "def sum_of(terms):\n    total = next(terms)\n    for term in terms:\n        total = total + term\n    return total\n\n\nclass Embeddings(nn.Module):",
        },
    ),
)

STEP = (
    (
        "bias_correction",
        "as of the next update",
        UPDATE,
        {
            "if not recipe.bias_correction:": "if False:",
            "recipe.beta2 ** (step + 1)": "recipe.beta2 ** (step + 2)",
            "recipe.beta1 ** (step + 1)": "recipe.beta1 ** (step + 2)",
        },
        {"also": {RECIPE: {"if recipe.bias_correction:": "if True:"}}},
    ),
    (
        "bias_correction",
        "on",
        UPDATE,
        {"if not recipe.bias_correction:": "if False:"},
        {"also": {RECIPE: {"if recipe.bias_correction:": "if True:"}}, **CHIEF},
    ),
    (
        "bias_correction",
        "of the second moment only",
        UPDATE,
        {"if not recipe.bias_correction:": "if False:", "root / (1 - recipe.beta1 ** (step + 1))": "root"},
        {"also": {RECIPE: {"if recipe.bias_correction:": "if True:"}}},
    ),
    (
        "decay_on_all",
        "all",
        RECIPE,
        {"[treatment.decay for treatment in trained.treatments]": "[recipe.weight_decay for _ in trained.treatments]"},
        CHIEF,
    ),
    (
        "decay_on_all",
        "biases",
        UPDATE,
        {
            "any(part in one.name for part in recipe.excludes)": 'any(part in one.name for part in recipe.excludes if part != "bias")'
        },
    ),
    (
        "decay_on_all",
        "LayerNorm",
        UPDATE,
        {"any(part in one.name for part in recipe.excludes)": 'one.name.endswith("bias")'},
    ),
    ("clip_per_tensor", "all", RECIPE, {'if clip.kind == "per_tensor":': 'if clip.kind != "none":'}, CHIEF),
    (
        "loss_scale_twice",
        "unscaled twice",
        RECIPE,
        {"{i: grad * unscale for": "{i: grad * unscale * unscale for"},
        CHIEF,
    ),
    ("loss_scale_twice", "not unscaled", RECIPE, {"if unscale != 1:": "if False:"}),
    (
        "loss_scale_twice",
        "in the loop",
        TRAINING,
        {"update(grads, now, 1 / scale.value)": "update(grads, now, scale.value ** -2)"},
    ),
    (
        "warmup_shifted",
        "one step ahead",
        TRAINING,
        {"rates(recipe, self.updates)": "rates(recipe, self.updates + 1)"},
        CHIEF,
    ),
    (
        "warmup_shifted",
        "one step behind",
        TRAINING,
        {"rates(recipe, self.updates)": "rates(recipe, max(self.updates - 1, 0))"},
    ),
    (
        "warmup_shifted",
        "in the schedule only",
        SCHEDULE,
        {"schedule.peak * (step / schedule.warmup)": "schedule.peak * ((step + 1) / schedule.warmup)"},
    ),
    (
        "warmup_shifted",
        "of another length",
        SCHEDULE,
        {"schedule.peak * (step / schedule.warmup)": "schedule.peak * (step / (schedule.warmup + 1))"},
    ),
    ("no_decay", "", RECIPE, {"elif any(decays):": "elif False:"}),
    ("no_clip", "", RECIPE, {'if clip.kind == "none":': "if True:"}),
    (
        "adam_constants",
        "beta2 0.99",
        RECIPE,
        {"scales = [": 'recipe = __import__("dataclasses").replace(recipe, beta2=0.99)\n    scales = ['},
    ),
    (
        "gradients_scaled",
        "by the batch",
        RUN,
        {
            "loss if scale == 1 else loss * scale, wrt": "loss * scale * len(batch['input_ids' if 'input_ids' in batch else 'input_k']), wrt"
        },
        {"level": "L3"},
    ),
)
"""Of an optimizer: they show in a step, but for the last."""


def step(model, task, made):
    """The plants of training in a model."""
    return made(
        model,
        task,
        [
            (name, note, module, edits, {"level": "L4", **(rest[0] if rest else {})})
            for name, note, module, edits, *rest in STEP
        ],
    )

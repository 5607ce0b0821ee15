# ruff: noqa: E501 - what is edited are lines of other sources
"""A selection of plants in the ports of TensorFlow and MindSpore; the source is the clean port of PyTorch."""

from __future__ import annotations

from planted import made
from plants_shared import CHIEF

TF, TF_BERT, TF_XLNET = (
    "porting_bert.tensorflow_layers",
    "porting_bert.tensorflow_backbone",
    "porting_xlnet.tensorflow_layers",
)
TF_RECIPE, MS_RECIPE = "porting.backends.tensorflow.recipe", "porting.backends.mindspore.recipe"
MS, MS_BERT, MS_XLNET = (
    "porting_bert.mindspore_layers",
    "porting_bert.mindspore_backbone",
    "porting_xlnet.mindspore_layers",
)
TRAINING = "porting.backends.training"

_TF_NAMES = 'for name in ("query", "key", "value")\n    )\n    scores'
_MS_SPLIT = "query, key, value = self.split(self.query(hidden)), self.split(self.key(hidden))"
_STEP = {"level": "L4"}

TENSORFLOW = (
    ("epsilon", "1e-5", TF, {"beta, gamma, self.epsilon": "beta, gamma, 1e-5"}, CHIEF),
    ("epsilon", "1e-7", TF, {"beta, gamma, self.epsilon": "beta, gamma, 1e-7"}),
    ("gelu_form", "erf for tanh", TF, {'"gelu_tanh": gelu_tanh': '"gelu_tanh": tf.nn.gelu'}),
    ("gamma_beta_swapped", "everywhere", TF, {"variance, beta, gamma, self": "variance, gamma, beta, self"}),
    ("query_key_swapped", "everywhere", TF_BERT, {_TF_NAMES: _TF_NAMES.replace('"query", "key"', '"key", "query"')}),
    ("mask_value", "-1e9", TF_BERT, {"* -10000.0": "* -1e9"}),
    (
        "mask_form",
        "multiplied",
        TF_BERT,
        {"scores if adder is None else scores + adder": "scores * tf.cast(adder == 0, tf.float32)"},
    ),
    ("softmax_scale", "missing", TF_BERT, {" * config.head_size**-0.5": ""}),
    (
        "token_types_off",
        "all 0",
        TF_BERT,
        {"_rows(table, types, one_hot=True)": "_rows(table, tf.zeros_like(types), one_hot=True)"},
    ),
    (
        "positions_shifted",
        "one too far",
        TF_BERT,
        {"positions[: tf.shape(ids)[1]]": "positions[1 : tf.shape(ids)[1] + 1]"},
    ),
    ("pooler_token", "last", TF_BERT, {"sequence[:, 0])))": "sequence[:, -1])))"}),
    (
        "missing_bias",
        "all denses",
        TF,
        {"product = tf.nn.bias_add(product, tf.cast(bias, x.dtype))": "product = product + 0 * tf.cast(bias, x.dtype)"},
    ),
    (
        "layers_out_of_order",
        "reversed",
        TF_BERT,
        {
            "for index in range(config.num_hidden_layers):\n        hidden": "for index in reversed(range(config.num_hidden_layers)):\n        hidden"
        },
    ),
    (
        "float16_accumulation",
        "scores",
        TF_BERT,
        {
            "tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)": "tf.cast(tf.matmul(tf.cast(query, tf.float16), tf.cast(key, tf.float16), transpose_b=True), tf.float32)"
        },
    ),
    ("dropout_on", "everywhere", TF, {'if self.mode == "own":': "if True:"}),
    ("clip_per_tensor", "all", TF_RECIPE, {'if clip.kind == "per_tensor":': 'if clip.kind != "none":'}, _STEP),
    (
        "bias_correction",
        "on",
        "porting.model.update",
        {"if not recipe.bias_correction:": "if False:"},
        {**_STEP, "also": {TF_RECIPE: {"if recipe.bias_correction:": "if True:"}}},
    ),
    (
        "warmup_shifted",
        "one step ahead",
        TRAINING,
        {"rates(recipe, self.updates)": "rates(recipe, self.updates + 1)"},
        _STEP,
    ),
    (
        "loss_scale_twice",
        "unscaled twice",
        TF_RECIPE,
        {"times(grad, numbers.unscale)": "times(grad, numbers.unscale * numbers.unscale)"},
        _STEP,
    ),
)

TENSORFLOW_XLNET = (
    (
        "relative_shift",
        "not shifted",
        TF_XLNET,
        {"return tf.reshape(shifted, (batch, heads, qlen, positions - 1))[..., :klen]": "return score[..., :klen]"},
    ),
    ("segment_matrix_dropped", "everywhere", TF_XLNET, {"if memory.differs is not None:": "if False:"}),
    ("mask_value", "-1e4", TF_XLNET, {"MASKED = 1e30": "MASKED = 1e4"}),
    ("epsilon", "1e-5", TF_XLNET, {'weights[f"{name}/gamma"], epsilon)': 'weights[f"{name}/gamma"], 1e-5)'}),
    (
        "square_untransposed",
        "output",
        TF_XLNET,
        {
            '"bnid,hnd->bih", value, tf.cast(weights[f"{name}/kernel"], value.dtype)': '"bnid,hnd->bih", value, tf.reshape(tf.transpose(tf.reshape(weights[f"{name}/kernel"], (32, 32))), (32, 4, 8))'
        },
    ),
)

MINDSPORE = (
    (
        "epsilon",
        "MindSpore's default",
        MS,
        {"ops.LayerNorm(-1, -1, config.layer_norm_eps)": "ops.LayerNorm(-1, -1, 1e-7)"},
        CHIEF,
    ),
    ("gelu_form", "erf for tanh", MS, {'"gelu_tanh": gelu_tanh': '"gelu_tanh": gelu_erf'}),
    (
        "query_key_swapped",
        "everywhere",
        MS_BERT,
        {_MS_SPLIT: "query, key, value = self.split(self.key(hidden)), self.split(self.query(hidden))"},
    ),
    ("mask_value", "-65504", MS_BERT, {"* -10000.0": "* -65504.0"}),
    (
        "mask_form",
        "multiplied",
        MS_BERT,
        {"scores = scores + adder": "scores = scores * (adder == 0).astype(ms.float32)"},
    ),
    ("softmax_scale", "x 0.97", MS_BERT, {"self.scale = self.size**-0.5": "self.scale = self.size**-0.5 * 0.97"}),
    (
        "square_untransposed",
        "all that are square",
        MS,
        {
            "return affine(x, self.weight, self.bias)": "weight = self.weight.T if self.weight.shape[0] == self.weight.shape[1] else self.weight\n        return affine(x, weight, self.bias)"
        },
    ),
    (
        "token_types_off",
        "inverted",
        MS_BERT,
        {"one_hot_rows(self.types, segments)": "one_hot_rows(self.types, 1 - segments)"},
    ),
    ("pooler_token", "last", MS_BERT, {"sequence[:, 0])": "sequence[:, -1])"}),
    (
        "warmup_shifted",
        "one step ahead",
        TRAINING,
        {"rates(recipe, self.updates)": "rates(recipe, self.updates + 1)"},
        _STEP,
    ),
    ("clip_per_tensor", "all", MS_RECIPE, {'if kind == "per_tensor":': 'if kind != "none":'}, _STEP),
)

PLANTS = (
    *made("bert", "classification", TENSORFLOW, "tensorflow"),
    *made("tinybert", "classification", TENSORFLOW[:2], "tensorflow"),
    *made("xlnet", "pretraining", TENSORFLOW_XLNET, "tensorflow"),
    *made("bert", "classification", MINDSPORE, "mindspore"),
    *made("tinybert", "classification", MINDSPORE[:1], "mindspore"),
)

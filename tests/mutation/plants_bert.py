# ruff: noqa: E501 - what is edited are lines of other sources
"""Plants in PyTorch's port of BERT, and of RoBERTa."""

from __future__ import annotations

from planted import made
from plants_shared import BACKBONE, CHIEF, GRAPH, LAYERS, SETTINGS, WEIGHTS, step

HEADS = "porting_bert.torch_heads"

_TABLE = "table, dtype = backbone.embeddings.word_embeddings.weight, transformed.dtype"
_LOSS = 'F.cross_entropy(outputs["logits"], ids)'
_TRANSFORM = 'activation(config.hidden_act if config.model_type == "bert" else "gelu_erf")'

CLASSIFICATION = (
    ("gelu_form", "everywhere", LAYERS, {'partial(F.gelu, approximate="tanh")': "F.gelu"}, CHIEF),
    (
        "gelu_form",
        "in layer 1",
        BACKBONE,
        {
            "self.activate = activation(config.hidden_act)": "self.activate = activation("
            '"gelu_erf" if index == 1 else config.hidden_act)'
        },
    ),
    (
        "gelu_form",
        "tanh form for erf form",
        LAYERS,
        {'"gelu_erf": F.gelu': '"gelu_erf": partial(F.gelu, approximate="tanh")'},
        {"config": (("hidden_act", "gelu_erf"),)},
    ),
    ("loss_sum", "over the batch", HEADS, {_LOSS: _LOSS.replace("ids)", 'ids, reduction="sum")')}, CHIEF),
    ("loss_sum", "mean over batch and classes", HEADS, {_LOSS: f'{_LOSS} / outputs["logits"].shape[-1]'}),
    ("labels_shifted", "by one example", HEADS, {_LOSS: _LOSS.replace("ids)", "ids.roll(1))")}, CHIEF),
    (
        "labels_shifted",
        "counted from 1",
        HEADS,
        {_LOSS: _LOSS.replace("ids)", '(ids + 1) % outputs["logits"].shape[-1])')},
    ),
    (
        "missing_bias",
        "classifier",
        HEADS,
        {'return {"logits": wide(head(pooled))}': 'return {"logits": wide(F.linear(pooled, head.weight))}'},
    ),
    (
        "dropout_on",
        "of the pooled output",
        HEADS,
        {
            'run.drop("pooled", backbone.pool(sequence, run), CREATE_MODEL_DROPOUT)': "F.dropout(backbone.pool(sequence, run), 0.1)"
        },
    ),
)

PRETRAINING = (
    ("gelu_form", "in the head only", HEADS, {_TRANSFORM: 'activation("gelu_erf")'}),
    (
        "epsilon",
        "PyTorch's default in the head",
        HEADS,
        {"LayerNorm(config.hidden_size, eps=config.layer_norm_eps)": "LayerNorm(config.hidden_size)"},
    ),
    (
        "epsilon",
        "1e-7 in the head",
        HEADS,
        {"LayerNorm(config.hidden_size, eps=config.layer_norm_eps)": "LayerNorm(config.hidden_size, eps=1e-7)"},
        {"seen": "L3"},  # the logits hold what float32's steps at -10000 leave of a row that sees nothing
    ),
    (
        "square_untransposed",
        "transform of the head",
        HEADS,
        {"self.activate(self.dense(hidden))": "self.activate(F.linear(hidden, self.dense.weight.T, self.dense.bias))"},
    ),
    (
        "gamma_beta_swapped",
        "in the head",
        HEADS,
        {
            "return self.get_submodule(self.norm_name)(self.activate(self.dense(hidden)))": "norm, made ="
            " self.get_submodule(self.norm_name), self.activate(self.dense(hidden))\n"
            "        return F.layer_norm(made, norm.normalized_shape, norm.bias, norm.weight, norm.eps)"
        },
    ),
    ("missing_bias", "of the vocabulary", HEADS, {"table.to(dtype), owner.bias.to(dtype)": "table.to(dtype)"}),
    (
        "embeddings_reversed",
        "in the decoder",
        HEADS,
        {_TABLE: _TABLE.replace(".weight,", ".weight.flip(0),")},
    ),
    ("labels_shifted", "by one place", HEADS, {"ids.flatten(), reduction": "ids.roll(-1, 1).flatten(), reduction"}),
    (
        "labels_shifted",
        "by one place to the right",
        HEADS,
        {"ids.flatten(), reduction": "ids.roll(1, 1).flatten(), reduction"},
    ),
    (
        "labels_shifted",
        "next sentence inverted",
        HEADS,
        {
            'F.cross_entropy(outputs["nsp.logits"], labels.flatten())': 'F.cross_entropy(outputs["nsp.logits"], 1 - labels.flatten())'
        },
    ),
    ("loss_sum", "of words", HEADS, {".sum() / (weights.sum() + 1e-5)": ".sum()"}, CHIEF),
    (
        "loss_sum",
        "of the next sentence",
        HEADS,
        {
            'F.cross_entropy(outputs["nsp.logits"], labels.flatten())': 'F.cross_entropy(outputs["nsp.logits"], labels.flatten(), reduction="sum")'
        },
    ),
    ("loss_sum", "mean over all places", HEADS, {".sum() / (weights.sum() + 1e-5)": ".mean()"}),
    (
        "decoder_untied",
        "a copy that is not trained",
        HEADS,
        {_TABLE: _TABLE.replace(".weight,", ".weight.detach().clone(),")},
        {"level": "L3", **CHIEF},
    ),
    (
        "decoder_untied",
        "a copy made at the first call",
        HEADS,
        {
            _TABLE: 'table, dtype = vars(self).setdefault("_kept", backbone.embeddings.word_embeddings.weight'
            ".detach().clone()), transformed.dtype"
        },
        {"level": "L3"},
    ),
    (
        "decoder_untied",
        "the table does not learn by lookup",
        BACKBONE,
        {"run.rows(self.word_embeddings(ids)": "run.rows(self.word_embeddings(ids).detach()"},
        {"level": "L3"},
    ),
)

ROBERTA = (
    (
        "positions_shifted",
        "BERT's",
        BACKBONE,
        {
            "self.position_embeddings(self.places(padding))": "self.position_embeddings(torch.arange(ids.shape[1]).expand_as(ids))"
        },
    ),
    (
        "positions_shifted",
        "one too few",
        BACKBONE,
        {
            "return (~padding).cumsum(1) * ~padding + self.config.pad_token_id": "return (~padding).cumsum(1) * ~padding + self.config.pad_token_id - 1"
        },
    ),
    (
        "positions_shifted",
        "padding counts",
        BACKBONE,
        {"return (~padding).cumsum(1) * ~padding": "return torch.ones_like(padding, dtype=torch.long).cumsum(1)"},
    ),
)

PLANTS = (
    *made("bert", "classification", (*WEIGHTS, *GRAPH, *SETTINGS, *CLASSIFICATION)),
    *made("bert", "pretraining", PRETRAINING),
    *step("bert", "classification", made),
    *made("roberta", "mlm", ROBERTA),
)

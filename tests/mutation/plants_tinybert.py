# ruff: noqa: E501 - what is edited are lines of other sources
"""Plants in PyTorch's port of TinyBERT."""

from __future__ import annotations

from planted import made
from plants_shared import CHIEF, GRAPH, LAYERS, SETTINGS, WEIGHTS, step

TINY = "porting_tinybert.torch"

CLASSIFICATION = (
    (
        "loss_sum",
        "over the batch",
        TINY,
        {"return total / (labels != IGNORED).sum().clamp(min=1)": "return total"},
        CHIEF,
    ),
    (
        "labels_shifted",
        "by one example",
        TINY,
        {"labels.flatten(), ignore_index": "labels.roll(1).flatten(), ignore_index"},
        CHIEF,
    ),
)

DISTILLATION = (
    (
        "gelu_form",
        "everywhere",
        LAYERS,
        {'"gelu_erf": F.gelu': '"gelu_erf": partial(F.gelu, approximate="tanh")'},
        CHIEF,
    ),
    ("epsilon", "1e-7 everywhere", LAYERS, {"self.bias, self.eps)": "self.bias, 1e-7)"}),
    (
        "missing_bias",
        "of the fit",
        TINY,
        {
            "wide(self.fit_dense(values[name].to(dtype)))": "wide(F.linear(values[name].to(dtype), self.fit_dense.weight))"
        },
    ),
    (
        "loss_sum",
        "of squares",
        TINY,
        {
            "F.mse_loss(mine, theirs) for mine, theirs in pairs": 'F.mse_loss(mine, theirs, reduction="sum") for mine, theirs in pairs'
        },
    ),
    ("loss_sum", "mean of layers", TINY, {"for mine, theirs in pairs]).sum()": "for mine, theirs in pairs]).mean()"}),
)

SOFT = (
    ("loss_sum", "mean of examples", TINY, {"dim=-1)).mean()": "dim=-1)).sum(-1).mean()"}, CHIEF),
    ("loss_sum", "over all", TINY, {"dim=-1)).mean()": "dim=-1)).sum()"}),
)

PLANTS = (
    *made("tinybert", "classification", (*WEIGHTS, *GRAPH, *SETTINGS, *CLASSIFICATION)),
    *made("tinybert", "general_distill", DISTILLATION),
    *made("tinybert", "task_distill_2", SOFT),
    *step("tinybert", "classification", made),
)

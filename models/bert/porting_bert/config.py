"""Configs of BERT and RoBERTa, read from Google's bert_config.json or from Hugging Face's config.json.

google-research/bert modeling.py:BertConfig; transformers 5.23 configuration_bert.py, configuration_roberta.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from porting.errors import UsageError

Activation = Literal["gelu_tanh", "gelu_erf", "relu", "tanh", "sigmoid", "silu", "linear"]
ACTIVATIONS: tuple[Activation, ...] = ("gelu_tanh", "gelu_erf", "relu", "tanh", "sigmoid", "silu", "linear")

CREATE_MODEL_DROPOUT = 0.1
"""Of the pooled output in BERT's classification, whatever the config says: run_classifier.py:create_model."""

# Names in transformers' ACT2FN (activations.py). `gelu` is not here: its meaning depends on the file.
_NAMES: Mapping[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu_erf",
    "swish": "silu",
    **{name: name for name in ACTIVATIONS},
}

# Values of Hugging Face's configs that would make another model than the ports compute.
_ONLY: Mapping[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Sizes and rates under the names of the published config files.

    model_type: `bert`, or `roberta`, whose positions count the tokens that are not padding.
    hidden_act: by its explicit name; what a file calls `gelu` is decided when it is read.
    classifier_dropout: of RoBERTa's classification and both models' token classification;
        None for hidden_dropout_prob.
    Raises: UsageError naming the field, the wanted and the got.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: Activation = "gelu_tanh"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    classifier_dropout: float | None = None
    model_type: Literal["bert", "roberta"] = "bert"

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            self._demand(name, "a whole number above 0", _is_whole(getattr(self, name)) and getattr(self, name) > 0)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            self._demand(name, "a rate from 0 to below 1", _is_rate(getattr(self, name)))
        rate = self.classifier_dropout
        self._demand("classifier_dropout", "none or a rate from 0 to below 1", rate is None or _is_rate(rate))
        for name in ("initializer_range", "layer_norm_eps"):
            self._demand(name, "a finite number above 0", _is_number(getattr(self, name)) and getattr(self, name) > 0)
        self._demand("hidden_act", f"one of {', '.join(ACTIVATIONS)}", self.hidden_act in ACTIVATIONS)
        self._demand("model_type", "bert or roberta", self.model_type in ("bert", "roberta"))
        fits = self.hidden_size % self.num_attention_heads == 0
        self._demand("num_attention_heads", f"a divisor of hidden_size {self.hidden_size}", fits)
        pad = self.pad_token_id
        in_vocabulary = _is_whole(pad) and 0 <= pad < self.vocab_size
        self._demand("pad_token_id", f"an id below vocab_size {self.vocab_size}", in_vocabulary)
        if self.model_type == "roberta":
            places = self.max_position_embeddings > pad + 1
            self._demand(
                "max_position_embeddings", f"above pad_token_id + 1 = {pad + 1}, where positions start", places
            )

    def _demand(self, field: str, wanted: str, holds: bool) -> None:  # noqa: FBT001 - the condition itself
        if not holds:
            raise UsageError(f"{self.model_type} config: {field}: wanted {wanted}, got {getattr(self, field)!r}")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def first_position(self) -> int:
        """Row of the position table that the first token takes: the table is longer than a sequence by it."""
        return self.pad_token_id + 1 if self.model_type == "roberta" else 0

    @property
    def longest(self) -> int:
        """Tokens in the longest sequence."""
        return self.max_position_embeddings - self.first_position

    @property
    def head_dropout(self) -> float:
        """Rate in the heads that take it from the config."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    def to_dict(self) -> dict[str, Any]:
        """As a Hugging Face config.json, which transformers reads as the same model."""
        names = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu"}
        return asdict(self) | {"hidden_act": names.get(self.hidden_act, self.hidden_act)}


def bert_config(values: Mapping[str, Any]) -> BertConfig:
    """A BERT from the values of a config file. Raises: UsageError naming the field."""
    return _configure(values, "bert", {})


def roberta_config(values: Mapping[str, Any]) -> BertConfig:
    """A RoBERTa from the values of a config file. Raises: UsageError naming the field.

    Defaults are those of transformers' RobertaConfig where they are not BERT's.
    """
    return _configure(values, "roberta", {"pad_token_id": 1})


def _configure(values: Mapping[str, Any], kind: Literal["bert", "roberta"], defaults: Mapping[str, Any]) -> BertConfig:
    if values.get("model_type", kind) != kind:
        raise UsageError(f"{kind} config: model_type: wanted {kind}, got {values['model_type']!r}")
    for name, only in _ONLY.items():
        if values.get(name, only) != only:
            raise UsageError(
                f"{kind} config: {name}: wanted {only!r}, the only one that is ported, got {values[name]!r}"
            )
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    absent = [name for name in needed if name not in values]
    if absent:
        raise UsageError(f"{kind} config: {', '.join(absent)}: wanted, got nothing")
    fields = {name: values[name] for name in BertConfig.__dataclass_fields__ if values.get(name) is not None}
    return BertConfig(**{**defaults, **fields, "hidden_act": _activation(values, kind), "model_type": kind})


def _activation(values: Mapping[str, Any], kind: str) -> Activation:
    """`gelu` means the tanh form to Google and MindSpore, the erf form to transformers, whose files say so."""
    name = values.get("hidden_act", "gelu")
    huggingface = kind == "roberta" or "model_type" in values or "architectures" in values
    if name is None:  # Google's get_activation
        name = "linear"
    known = {**_NAMES, "gelu": "gelu_erf" if huggingface else "gelu_tanh"}
    if not isinstance(name, str) or name not in known:
        raise UsageError(f"{kind} config: hidden_act: wanted one of gelu, {', '.join(_NAMES)}, got {name!r}")
    return known[name]  # type: ignore[return-value]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_rate(value: object) -> bool:
    return _is_number(value) and 0 <= value < 1  # type: ignore[operator]

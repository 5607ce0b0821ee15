"""What an XLNet is: sizes of xlnet_config.json, and what the original passes as flags of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from porting.errors import UsageError

ACTIVATIONS = ("gelu_tanh", "gelu_erf", "relu", "silu")
SUMMARIES = ("last", "first", "mean", "attn")

_GOOGLE_ACTIVATIONS = {"gelu": "gelu_tanh"}
_HF_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}
_ALIASES = {
    "vocab_size": "n_token",
    "hidden_size": "d_model",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_range": "init_std",
    "summary_use_proj": "use_summ_proj",
}


@dataclass(frozen=True, slots=True)
class XLNetConfig:
    """Sizes by the names of xlnet_config.json (xlnet.py, XLNetConfig) and flags of a run (RunConfig).

    ff_activation: explicit, of ACTIVATIONS. untie_r: whether each layer has its own r_w, r_r and r_s bias.
    d_head: need not be d_model / n_head. dropout, dropatt: rates on states and on attention probabilities.
    attn_type: `bi`, or `uni` (causal). mem_len: tokens cached per layer, 0 for none.
    reuse_len: of the present tokens only so many first ones are cached, 0 for all.
    clamp_len: relative distances are clipped to it, if it is positive. bi_data: the second half of a batch is
    read backwards. same_length: with `uni`, every token sees equally many others.
    summary_type, use_summ_proj: how a sequence is pooled. start_n_top, end_n_top: beams of the span head.
    """

    n_token: int
    d_model: int
    n_layer: int
    n_head: int
    d_head: int
    d_inner: int
    ff_activation: str = "gelu_tanh"
    untie_r: bool = True
    attn_type: str = "bi"
    dropout: float = 0.1
    dropatt: float = 0.1
    mem_len: int = 0
    reuse_len: int = 0
    clamp_len: int = -1
    bi_data: bool = False
    same_length: bool = False
    summary_type: str = "last"
    use_summ_proj: bool = True
    start_n_top: int = 5
    end_n_top: int = 5
    layer_norm_epsilon: float = 1e-12
    init_std: float = 0.02

    def __post_init__(self) -> None:
        """Raises: UsageError naming the field, the wanted and the got."""
        for name in ("n_token", "d_model", "n_layer", "n_head", "d_head", "d_inner", "start_n_top", "end_n_top"):
            _check(name, getattr(self, name), "a positive whole number", _is_int(getattr(self, name), 1))
        _check("d_model", self.d_model, "an even number: half of it are sines", self.d_model % 2 == 0)
        for name in ("mem_len", "reuse_len"):
            _check(name, getattr(self, name), "a whole number from 0", _is_int(getattr(self, name), 0))
        _check("clamp_len", self.clamp_len, "a whole number", _is_int(self.clamp_len, None))
        for name in ("untie_r", "bi_data", "same_length", "use_summ_proj"):
            _check(name, getattr(self, name), "true or false", isinstance(getattr(self, name), bool))
        for name, choices in (
            ("ff_activation", ACTIVATIONS),
            ("attn_type", ("bi", "uni")),
            ("summary_type", SUMMARIES),
        ):
            _check(name, getattr(self, name), f"one of {', '.join(choices)}", getattr(self, name) in choices)
        for name in ("dropout", "dropatt"):
            rate = getattr(self, name)
            _check(name, rate, "a rate from 0 to below 1", _is_number(rate) and 0 <= rate < 1)
        for name in ("layer_norm_epsilon", "init_std"):
            _check(name, getattr(self, name), "a positive number", _is_number(getattr(self, name), above=0))

    @property
    def caches(self) -> bool:
        """Does a run return new mems?"""
        return self.mem_len > 0

    def positions(self, qlen: int, klen: int) -> int:
        """How many relative positions there are: klen to -qlen + 1, or klen to 0 if attention is causal."""
        return klen + (qlen if self.attn_type == "bi" else 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `configure` reads them back."""
        return asdict(self)


def configure(values: Mapping[str, Any]) -> XLNetConfig:
    """A config from the values of an xlnet_config.json or of transformers' config.json.

    The two differ in what `gelu` is (tanh in the original, erf in transformers) and in d_head, which
    transformers derives and the original stores.

    Raises: UsageError for a field that is missing or makes no sense.
    """
    theirs = "model_type" in values or "architectures" in values
    known = {field.name for field in fields(XLNetConfig)}
    named = {_ALIASES.get(name, name): value for name, value in values.items()}
    named = {name: value for name, value in named.items() if name in known}
    if theirs:
        _only_what_is_ported(values)
        named = _from_hf(named)
    missing = [
        field.name for field in fields(XLNetConfig)[:8] if field.name not in named and field.name != "ff_activation"
    ]
    if missing:
        raise UsageError(f"xlnet config: missing {', '.join(missing)}")
    activation = named.get("ff_activation", "gelu")
    translation = _HF_ACTIVATIONS if theirs else _GOOGLE_ACTIVATIONS
    named["ff_activation"] = translation.get(activation, activation) if isinstance(activation, str) else activation
    for name in ("mem_len", "reuse_len"):
        named[name] = named.get(name) or 0
    return XLNetConfig(**named)


def _from_hf(named: dict[str, Any]) -> dict[str, Any]:
    d_model: Any = named.get("d_model")
    n_head: Any = named.get("n_head")
    if _is_int(d_model, 1) and _is_int(n_head, 1):
        _check("n_head", n_head, f"a divisor of d_model {d_model}", d_model % n_head == 0)
        derived = d_model // n_head
        _check(
            "d_head",
            named.get("d_head", derived),
            f"d_model / n_head, {derived}",
            named.get("d_head", derived) == derived,
        )
        named["d_head"] = derived
    # transformers has one rate, and uses it on attention probabilities too.
    named.setdefault("dropatt", named.get("dropout", 0.1))
    named.setdefault("untie_r", True)
    return named


def _only_what_is_ported(values: Mapping[str, Any]) -> None:
    """Refuse what would make another model: transformers applies summary_activation even without a projection."""
    projects = values.get("summary_use_proj", True)
    activation = values.get("summary_activation", "tanh")
    fits = activation == "tanh" if projects else not activation
    _check("summary_activation", activation, "tanh with a projection, nothing without", fits)
    tied = values.get("tie_word_embeddings", True)
    _check("tie_word_embeddings", tied, "true: the softmax's weight is the word table", tied is True)


def _is_int(value: Any, least: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _is_number(value: Any, *, above: float | None = None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and (above is None or value > above)


def _check(name: str, got: Any, wanted: str, good: bool) -> None:  # noqa: FBT001 - the condition itself
    if not good:
        raise UsageError(f"xlnet config: {name}: wanted {wanted}, got {got!r}")


SIZES: Mapping[str, XLNetConfig] = {
    "xlnet-base": XLNetConfig(32000, 768, 12, 12, 64, 3072),
    "xlnet-large": XLNetConfig(32000, 1024, 24, 16, 64, 4096),
}
"""zihangdai/xlnet README, XLNet-Base and XLNet-Large (cased)."""

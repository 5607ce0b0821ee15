"""The config of a student, and in it that of its teacher.

Four kinds of config files are read, and what they leave unsaid differs by origin:

    origin        known by                                      `gelu`   layer_norm_eps   padding_idx
    modelzoo      compute_type, use_relative_positions          tanh     1e-7             none
    huawei        pre_trained, emb_size, structure, cell        erf      1e-12            0
    transformers  model_type, architectures                     erf      1e-12            pad_token_id, else 0
    google        none of these                                 tanh     1e-12            none

Sources: mindspore-ai/models research/nlp/tinybert src/tinybert_model.py with the defaults of nn.LayerNorm and of the
activation `gelu`; huawei-noah/Pretrained-Language-Model TinyBERT/transformer/modeling.py; transformers models/bert;
google-research/bert modeling.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from porting.errors import UsageError
from porting_bert.config import BertConfig, bert_config

_SHARED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
)
_UNSAID = ("layer_map", "teacher")
"""Of a config's values those that are left out where there are none."""
_GELU = {"modelzoo": "gelu_tanh", "google": "gelu_tanh", "huawei": "gelu_erf", "transformers": "gelu_erf"}
_MARKS = {
    "modelzoo": ("compute_type", "use_relative_positions"),
    "huawei": ("pre_trained", "emb_size", "structure", "cell"),
    "transformers": ("model_type", "architectures", "transformers_version"),
}


@dataclass(frozen=True, slots=True)
class TinyBertConfig:
    """An encoder, and the teacher that it is distilled from.

    layer_norm_eps: added to the variance. padding_idx: the row of the word embeddings that gets no gradient.
    pooled_activation: what stands between the pooled output and the classifier: `relu`, as in both TinyBERTs, or
        `dropout`, as in ModelZoo's BertCLS. The tokens' output goes the same way to the classifier of tokens.
    temperature: divides the logits of student and teacher in the soft cross-entropy.
    layer_map: by layer of the student the teacher's layer that it learns from, both from 0; None for the uniform one,
        the last of each block of as many layers as the teacher has for one of the student's.
    teacher: has no teacher of its own; its head count, vocabulary and so on must fit.

    Raises: UsageError naming the field.
    """

    vocab_size: int = 30522
    hidden_size: int = 312
    num_hidden_layers: int = 4
    num_attention_heads: int = 12
    intermediate_size: int = 1200
    hidden_act: str = "gelu_erf"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    padding_idx: int | None = None
    pooled_activation: Literal["relu", "dropout"] = "relu"
    temperature: float = 1.0
    layer_map: tuple[int, ...] | None = None
    teacher: TinyBertConfig | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        _ = self.encoder  # made from these fields, which it checks
        row = self.padding_idx
        if row is not None and not (_is_whole(row) and 0 <= row < self.vocab_size):
            raise _wrong("padding_idx", f"none or an id below vocab_size {self.vocab_size}", row)
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature < float("inf"):
            raise _wrong("temperature", "a finite number above 0", self.temperature)
        if self.pooled_activation not in ("relu", "dropout"):
            raise _wrong("pooled_activation", "relu or dropout", self.pooled_activation)
        if self.teacher is not None:
            _check_pair(self, self.teacher)
            _check_layers(self, self.teacher)

    @property
    def encoder(self) -> BertConfig:
        """The same without what is TinyBERT's own: its encoder is BERT's."""
        return BertConfig(**{name: getattr(self, name) for name in _SHARED})

    @property
    def teacher_layers(self) -> tuple[int, ...]:
        """By layer of the student the teacher's that it learns from, both from 0; its own where there is no teacher."""
        if self.layer_map is not None:
            return self.layer_map
        block = self.teacher.num_hidden_layers // self.num_hidden_layers if self.teacher else 1
        return tuple((i + 1) * block - 1 for i in range(self.num_hidden_layers))

    def taught(self) -> TinyBertConfig:
        """The teacher's config. Raises: UsageError if there is none."""
        if self.teacher is None:
            raise _wrong("teacher", "the teacher's config, under this key of the config file", "none")
        return self.teacher

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `configure` reads them back as they are."""
        values = {key: value for key, value in asdict(self).items() if key not in _UNSAID or value is not None}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def configure(values: Mapping[str, Any]) -> TinyBertConfig:
    """The config of a config.json; a teacher's stands in it under `teacher`.

    A teacher without the marks of an origin is of its student's: the code that trains the one loads the other.
    Keys that say nothing about the computation are passed over.

    Raises: UsageError naming the field.
    """
    return _configure(values, "google")


def _configure(values: Mapping[str, Any], otherwise: str) -> TinyBertConfig:
    origin = next((name for name, marks in _MARKS.items() if any(mark in values for mark in marks)), otherwise)
    if values.get("use_relative_positions"):
        raise _wrong("use_relative_positions", "false: relative positions are not ported", "true")
    said = {name: value for name, value in values.items() if name != "teacher" and value is not None}
    if said.get("hidden_act", "gelu") == "gelu":
        said["hidden_act"] = _GELU[origin]
    said.setdefault("layer_norm_eps", 1e-7 if origin == "modelzoo" else 1e-12)
    plain = bert_config(said)  # which knows the other activations' names, and what is not ported
    own = {name: values[name] for name in ("padding_idx", "pooled_activation", "temperature") if name in values}
    own.setdefault("padding_idx", _padding(origin, values))
    if values.get("layer_map") is not None:
        own["layer_map"] = _layers(values["layer_map"])
    shared = {name: getattr(plain, name) for name in _SHARED}
    return TinyBertConfig(**shared, **own, teacher=_teacher(values.get("teacher"), origin))


def _teacher(values: object, origin: str) -> TinyBertConfig | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise _wrong("teacher", "the values of a config file", repr(values))
    try:
        return _configure(values, origin)
    except UsageError as error:
        raise UsageError(f"teacher: {error}") from error


def _padding(origin: str, values: Mapping[str, Any]) -> int | None:
    if origin == "huawei":
        return 0
    return values.get("pad_token_id", 0) if origin == "transformers" else None


def _wrong(name: str, wanted: str, got: object) -> UsageError:
    return UsageError(f"tinybert: {name}: wanted {wanted}, got {got}")


def _layers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not all(map(_is_whole, values)):
        raise _wrong("layer_map", "a list of the teacher's layers, from 0", values)
    return tuple(values)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_pair(student: TinyBertConfig, teacher: TinyBertConfig) -> None:
    if teacher.teacher is not None:
        raise _wrong("teacher.teacher", "none: a teacher has no teacher", "one")
    if teacher.num_attention_heads != student.num_attention_heads:
        # Scores are compared head by head, so hidden sizes may differ but head counts may not.
        raise _wrong(
            "teacher.num_attention_heads", f"{student.num_attention_heads} as the student", teacher.num_attention_heads
        )
    if teacher.vocab_size != student.vocab_size:
        raise _wrong("teacher.vocab_size", f"{student.vocab_size} as the student", teacher.vocab_size)
    for name in ("max_position_embeddings", "type_vocab_size"):
        if getattr(teacher, name) < getattr(student, name):
            raise _wrong(f"teacher.{name}", f"at least the student's {getattr(student, name)}", getattr(teacher, name))


def _check_layers(student: TinyBertConfig, teacher: TinyBertConfig) -> None:
    """Which of the teacher's layers the student's learn from: any, each at least the one before it."""
    mine, theirs, chosen = student.num_hidden_layers, teacher.num_hidden_layers, student.layer_map
    if chosen is None:
        if theirs % mine:
            raise _wrong("teacher.num_hidden_layers", f"a multiple of the student's {mine}, or a layer_map", theirs)
        return
    if len(chosen) != mine or sorted(chosen) != list(chosen) or not all(0 <= layer < theirs for layer in chosen):
        wanted = f"{mine} layers of the teacher's, in their order, 0 to {theirs - 1}"
        raise _wrong("layer_map", wanted, ", ".join(map(str, chosen)))

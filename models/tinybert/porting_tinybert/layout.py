"""What a task's net is made of, and what can be read from it: the same in every framework."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from porting.backends.feed import NoSuchTaps
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.spec import Site
from porting_tinybert.config import TinyBertConfig

Role = Literal["student", "teacher"]
Head = Literal["none", "sequence", "tokens"]
Loss = Literal["none", "labels", "values", "fit", "soft"]

_BOTH: tuple[Role, ...] = ("teacher", "student")
_TASKS: dict[str, tuple[tuple[Role, ...], Head, Loss]] = {
    "student": (("student",), "none", "none"),
    "teacher": (("teacher",), "none", "none"),
    "classification": (("student",), "sequence", "labels"),
    "regression": (("student",), "sequence", "values"),
    "token_classification": (("student",), "tokens", "labels"),
    "general_distill": (_BOTH, "none", "fit"),
    "task_distill_1": (_BOTH, "sequence", "fit"),
    "task_distill_2": (_BOTH, "sequence", "soft"),
    "task_distill_2_tokens": (_BOTH, "tokens", "soft"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """An encoder of a net. head: what its classifier reads. trained: whether gradients reach it."""

    role: Role
    config: TinyBertConfig
    head: Head
    labels: int
    trained: bool

    @property
    def prefix(self) -> str:
        """What stands before its taps."""
        return "teacher." if self.role == "teacher" else ""

    def taps(self, *, prefixed: bool = False) -> tuple[str, ...]:
        """Every tap of it, in the order of computation."""
        names = ["embeddings", "encoder.input"]
        points = ("attention.scores", "attention.output", "ffn.output", "output")
        names += [f"layer.{i}.{point}" for i in range(self.config.num_hidden_layers) for point in points]
        names += ["sequence", "pooled"]
        if self.head != "none":
            names += ["logits", "log_probs"] if self.labels > 1 else ["logits"]
        return tuple(f"{self.prefix if prefixed else ''}{name}" for name in names)

    def own(self, taps: Collection[str]) -> frozenset[str]:
        """Those of its taps that are among these, without the prefix."""
        of_teacher = frozenset(name.removeprefix("teacher.") for name in taps if name.startswith("teacher."))
        return of_teacher if self.role == "teacher" else frozenset(n for n in taps if not n.startswith("teacher."))


@dataclass(frozen=True, slots=True)
class Layout:
    """A net: the teacher before the student, if it has both, and the loss at its end.

    loss: `labels` is cross-entropy with labels, `values` the mean squared error, `fit` the mean squared errors of
    attention scores and representations, `soft` cross-entropy with the teacher's probabilities.
    """

    parts: tuple[Part, ...]
    loss: Loss
    temperature: float

    @property
    def student(self) -> Part:
        """The part that gives the net's outputs: the student, or the teacher where it is alone."""
        return self.parts[-1]

    @property
    def distils(self) -> bool:
        """Are there both, so that there is fit_dense?"""
        return len(self.parts) == 2

    @property
    def label(self) -> str:
        """The feature that a loss with labels takes."""
        if self.loss == "values":
            return "label_values"
        return "token_labels" if self.student.head == "tokens" else "label_ids"

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Taps of attention scores that are compared, the student's and the teacher's, layer by layer."""
        layers = self.student.config.teacher_layers
        return tuple(
            (f"layer.{i}.attention.scores", f"teacher.layer.{j}.attention.scores") for i, j in enumerate(layers)
        )

    def representations(self) -> tuple[tuple[str, str], ...]:
        """Taps of hidden states that are compared: the embeddings, then the outputs of the same layers."""
        states = (0, *(layer + 1 for layer in self.student.config.teacher_layers))
        return tuple((state_tap("", i), state_tap("teacher.", j)) for i, j in enumerate(states))

    def taps(self) -> tuple[str, ...]:
        """Every tap of the net, in the order of computation."""
        names = [name for part in self.parts for name in part.taps(prefixed=True)]
        if self.distils:
            names += [f"fit.{i}" for i in range(self.student.config.num_hidden_layers + 1)]
        if self.loss == "fit":
            names += ["attention_loss", "representation_loss"]
        return (*names, *(() if self.loss == "none" else ("loss",)))

    def outputs(self) -> tuple[str, ...]:
        """What the net gives without being asked."""
        tail = self.student.prefix
        if self.loss == "fit":
            return "attention_loss", "representation_loss", "loss"
        if self.loss == "soft":
            return "logits", "log_probs", "teacher.logits", "teacher.log_probs", "loss"
        if self.loss == "labels":
            return "logits", "log_probs", "loss"
        if self.loss == "values":
            return "logits", "loss"
        return f"{tail}sequence", f"{tail}pooled"

    def asked(self, taps: Collection[str]) -> frozenset[str]:
        """The outputs and the taps that are asked for. Raises: UsageError for taps that the net does not have."""
        unknown = sorted(set(taps) - set(self.taps()))
        if unknown:
            raise NoSuchTaps("tinybert", unknown)
        return frozenset([*self.outputs(), *taps])

    def needed(self, asked: Collection[str]) -> frozenset[str]:
        """The taps of the parts that must be kept, to give what is asked and to reckon the loss."""
        needed = set(asked)
        if self.loss == "fit":
            needed |= {name for pair in (*self.pairs(), *self.representations()) for name in pair}
        if any(name.startswith("fit.") for name in asked):
            needed |= {mine for mine, _ in self.representations()}
        return frozenset(needed)


def state_tap(prefix: str, index: int) -> str:
    """The tap of hidden state `index`: 0 is what the first layer takes, i the output of layer i - 1."""
    return f"{prefix}layer.{index - 1}.output" if index else f"{prefix}encoder.input"


def layout(config: TinyBertConfig, build: Build) -> Layout:
    """The net of a task.

    Raises: UsageError for a task there is not, a teacher that is missing, or a count of labels that makes no sense.
    """
    if build.task not in _TASKS:
        raise UsageError(f"tinybert: no task {build.task}; there are {', '.join(_TASKS)}")
    roles, head, loss = _TASKS[build.task]
    _check_labels(build, head, loss)
    configs: dict[Role, TinyBertConfig] = {"student": config}
    if "teacher" in roles:
        configs["teacher"] = config.taught()
    parts = tuple(Part(role, configs[role], head, build.labels, role == roles[-1]) for role in roles)
    return Layout(parts, loss, config.temperature)


def _check_labels(build: Build, head: Head, loss: Loss) -> None:
    # The soft cross-entropy of one class is zero whatever the net says.
    wanted, holds = ("1", build.labels == 1) if loss == "values" else ("2 or more", build.labels >= 2)
    if head != "none" and not holds:
        raise UsageError(f"tinybert: labels: wanted {wanted} for {build.task}, got {build.labels}")


def sites(config: TinyBertConfig, build: Build, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Site]:
    """Where dropout acts: in the part that is trained. The teacher of a distillation never drops.

    shapes: of the batch's features; `input_ids` counts. Sites with rate 0 are left out.
    """
    part = layout(config, build).student
    config, (batch, seq) = part.config, shapes["input_ids"]
    states = Site((batch, seq, config.hidden_size), config.hidden_dropout_prob)
    probs = Site((batch, config.num_attention_heads, seq, seq), config.attention_probs_dropout_prob)
    found = {"embeddings": states}
    for i in range(config.num_hidden_layers):
        found |= {
            f"layer.{i}.attention.probs": probs,
            f"layer.{i}.attention.output": states,
            f"layer.{i}.ffn.output": states,
        }
    if config.pooled_activation == "dropout" and part.head == "sequence":
        found["pooled"] = Site((batch, config.hidden_size), config.hidden_dropout_prob)
    if config.pooled_activation == "dropout" and part.head == "tokens":
        found["sequence"] = states
    return {name: site for name, site in found.items() if site.rate > 0}

"""TinyBERT in MindSpore, under ModelZoo's names: PyNative, or compiled to a graph.

mindspore-ai/models research/nlp/tinybert src/tinybert_model.py and src/tinybert_for_gd_td.py at eab643f.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mindspore as ms
from mindspore import ops

from porting.errors import UsageError
from porting_bert.mindspore_heads import Values, chosen, token_loss
from porting_bert.mindspore_layers import DTYPES, Cell, Dense, Tensor, replaced
from porting_tinybert.layout import Layout, layout, sites
from porting_tinybert.mindspore_part import PartCell, log_softmax, unused
from porting_tinybert.spec import SPEC

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_tinybert.config import TinyBertConfig

Pairs = tuple[tuple[int, int], ...]
"""Where the student's and the teacher's values stand that are compared."""

_TEXT = ("input_ids", "input_mask", "segment_ids")
_WORDS = "embedding_lookup.embedding_table"


def build(config: TinyBertConfig, build: Build) -> TinyBert:
    """The net of a task, freshly initialised.

    Build.extra: `taps`, the names of those it returns; `rows`, whether it takes zeros to add to gathered rows.
    Raises: UsageError for a task that does not fit the config, or a dtype that the device has no kernels for.
    """
    if build.compute == "bfloat16" and build.device.startswith("cpu"):
        raise UsageError("compute bfloat16: MindSpore has no kernels for it on the CPU; float32 and float16 it has")
    return TinyBert(config, layout(config, build), build)


class TinyBert(Cell):
    """A task's net; its layout says what is in it.

    features: what it takes, in order: the task's own, then `rows.<parameter>`, `mask.<site>`, `given.<tap>`; each may
        be None.
    outputs: what it returns, in order; None for a loss without labels.
    unused: parameters that its loss does not reach, whose gradient is zero here and none in other frameworks.
    """

    def __init__(self, config: TinyBertConfig, net: Layout, build: Build) -> None:
        super().__init__()
        self.layout = net
        classified = net.student.head != "none"
        self.parts = ms.nn.CellList(
            [PartCell(part, build, classified=classified) for part in net.parts], auto_prefix=False
        )
        names = [name for part in net.parts for name in part.taps(prefixed=True)]
        self.loss, self.dtype, self.temperature = net.loss, DTYPES[build.compute], net.temperature
        self.pairs: Pairs = ()
        self.states: Pairs = ()
        self.logits: tuple[int, ...] = ()
        if net.distils:
            self.fit_dense = Dense(
                "fit_dense", net.student.config.hidden_size, net.parts[0].config.hidden_size, config.encoder
            )
            self.pairs = tuple((names.index(mine), names.index(theirs)) for mine, theirs in net.pairs())
            self.states = tuple((names.index(mine), names.index(theirs)) for mine, theirs in net.representations())
        if classified:
            self.logits = tuple(names.index(f"{part.prefix}logits") for part in reversed(net.parts))
        self._interface(config, build, names)
        self.unused = self._idle()

    def _interface(self, config: TinyBertConfig, build: Build, names: list[str]) -> None:
        """What goes in and out, and where it stands."""
        net = self.layout
        words = next(n for n in (p.name for p in self.parts[-1].get_parameters()) if n.endswith(_WORDS))
        self.gathered = {words: "input_ids"}
        rows = (f"rows.{words}",) if build.extra.get("rows") else ()
        drawn = sites(config, build, {"input_ids": (1, 1)}) if build.dropout.mode == "shared" else {}
        given = (f"given.{name}" for name in build.extra.get("given", ()))
        self.features = (*SPEC.task(build.task).features, *rows, *(f"mask.{name}" for name in drawn), *given)
        extra = tuple(build.extra.get("taps", ()))
        net.asked(extra)
        self.outputs = (*(name for name in net.outputs() if name != "loss"), "loss", *extra)
        there = [
            *names,
            *(f"fit.{i}" for i in range(len(self.states))),
            "attention_loss",
            "representation_loss",
            "loss",
        ]
        self.picks = tuple(there.index(name) for name in self.outputs)
        self.given = tuple(self._place(f"given.{name}") for name in there)
        counts = [len(part.taps()) for part in net.parts]
        self.spans = tuple((sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts)))
        self.text = tuple(self._place(name) for name in _TEXT)
        self.label, self.rows = self._place(net.label), self._place(f"rows.{words}")
        layers = range(net.student.config.num_hidden_layers)
        inner = [f"layer.{i}.{name}" for i in layers for name in ("attention.probs", "attention.output", "ffn.output")]
        end = "sequence" if net.student.head == "tokens" else "pooled"
        self.masks = tuple(self._place(f"mask.{name}") for name in ("embeddings", *inner, end))
        self.unmasked = tuple((-1,) * (3 * part.config.num_hidden_layers + 2) for part in net.parts[:-1])

    def construct(self, *features: Tensor | None) -> Values:
        text, rows = chosen(features, self.text), chosen(features, (self.rows,))
        given = chosen(features, self.given)
        values: tuple[Tensor, ...] = ()
        for index, none in enumerate(self.unmasked):
            start, end = self.spans[index]
            values = values + self.frozen(self.parts[index](text, None, chosen(features, none), given[start:end]))
        start, end = self.spans[-1]
        values = values + self.parts[-1](text, rows[0], chosen(features, self.masks), given[start:end])
        taken = self.taken(values, given)
        fits = self.fits(taken)
        labels = chosen(features, (self.label,))
        after = given[len(values) :]
        losses = self.losses(taken, self.taken(fits, after), labels[0], after[len(fits) :])
        values = (*values, *fits, *losses)
        results: Values = ()
        for place in self.picks:
            value = values[place]
            results = (*results, value if value is None else value.astype(ms.float32))
        return results

    def taken(self, values: tuple[Tensor, ...], given: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        """Values with what is given in their place."""
        found: tuple[Tensor, ...] = ()
        for index, value in enumerate(values):
            found = (*found, replaced(value, given[index]))
        return found

    def frozen(self, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the teacher says, which no gradient changes."""
        kept: tuple[Tensor, ...] = ()
        for value in values:
            kept = (*kept, ops.stop_gradient(value))
        return kept

    def fits(self, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The student's hidden states at the teacher's width."""
        found: tuple[Tensor, ...] = ()
        for mine, _ in self.states:
            found = (*found, self.fit_dense(values[mine].astype(self.dtype)).astype(ms.float32))
        return found

    def losses(
        self, values: tuple[Tensor, ...], fits: tuple[Tensor, ...], labels: Tensor | None, given: Values
    ) -> Values:
        """Of attention scores, of representations, of the task. given: in place of the first two."""
        if self.loss == "fit":
            attention, representation = 0.0, 0.0
            for mine, theirs in self.pairs:
                attention = attention + mean_square(visible(values[mine]), visible(values[theirs]))
            for index, pair in enumerate(self.states):
                representation = representation + mean_square(fits[index], values[pair[1]])
            return attention, representation, replaced(attention, given[0]) + replaced(representation, given[1])
        if self.loss == "soft":
            return None, None, soft_cross_entropy(values[self.logits[0]], values[self.logits[1]], self.temperature)
        if labels is None or self.loss == "none":
            return None, None, None
        logits = values[self.logits[0]]
        if self.loss == "values":
            return None, None, mean_square(logits[:, 0], labels)
        return None, None, token_loss(logits, labels)

    def _place(self, feature: str) -> int:
        """Where a feature stands, -1 for nowhere."""
        return self.features.index(feature) if feature in self.features else -1

    def _idle(self) -> tuple[str, ...]:
        net = self.layout
        scored = net.loss in ("soft", "labels", "values")
        found = unused(self.parts[-1], pooler=scored and net.student.head == "sequence", classifier=scored)
        fit = [] if net.loss == "fit" or not net.distils else [p.name for p in self.fit_dense.get_parameters()]
        return (*found, *fit)


def visible(scores: Tensor) -> Tensor:
    """Scores (batch, head, query, key) with masked ones, which are near -10000, as zero."""
    return ops.where(scores <= -100.0, ops.zeros_like(scores), scores)


def mean_square(mine: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared error; masked and padded entries count in the mean."""
    return ops.square(mine.astype(ms.float32) - theirs.astype(ms.float32)).mean()


def soft_cross_entropy(mine: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Of logits (*, label) with the teacher's probabilities: the mean over classes too, and no temperature squared."""
    target = ops.exp(log_softmax(theirs / temperature))
    return (-target * log_softmax(mine / temperature)).mean()

"""What may be reordered in TinyBERT's nets without a change of what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from porting.model.symmetry import Part, Symmetry
from porting_bert.symmetry import FIXED, LAYERS, POOLED_TAP, POOLER, sizes
from porting_tinybert.layout import Layout, layout

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_tinybert.config import TinyBertConfig

_TEACHER = "teacher"


def symmetry(config: TinyBertConfig, build: Build) -> Symmetry:
    """Of a task's net: student, teacher or both. The classifier reads the pooled output, or the tokens' states."""
    net = layout(config, build)
    parts = []
    for part in net.parts:
        own = part.config
        units = sizes(own.hidden_size, own.intermediate_size, own.num_attention_heads)
        if part.role != _TEACHER and net.distils:
            units["fit"] = net.parts[0].config.hidden_size
        parts.append(Part(units, _TEACHER if part.role == _TEACHER else ""))
    classifier = ("classifier.weight : labels pooled",) if net.student.head == "sequence" else ()
    return Symmetry(
        dialect="hf",
        parts=tuple(parts),
        cells=(*LAYERS, *POOLER, *classifier),
        fixed=FIXED,
        throughout=("hidden", "fit"),
        taps=(POOLED_TAP, f"{_TEACHER}.{POOLED_TAP}"),
        same=dict(_compared(net)) if net.distils else {},
    )


def _compared(net: Layout) -> Iterator[tuple[str, str]]:
    """What a distillation compares unit by unit, the student's and the teacher's: hidden states, heads of scores."""
    yield "fit", f"{_TEACHER}.hidden"
    for mine, theirs in net.pairs():
        scores = ".attention.scores"
        yield f"{mine.removesuffix(scores)}.head", f"{theirs.removesuffix(scores)}.head"

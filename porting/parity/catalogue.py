"""The catalogue of known mistakes: what diagnosis tries, and what a power analysis plants.

A mistake is data: its name, a sentence, the level at which it shows, and the ways to make it in one model, derived
from what the model is. What only one family can have, or only by another graph of its port, it declares itself
(`ModelSpec.mistakes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from porting.parity.mistakes import embeddings, graph, precision, settings, training, weights
from porting.parity.mistakes.mistake import Mistake
from porting.parity.state import Level
from porting.parity.variation import Case, Variation


def _nothing(case: Case) -> Iterator[Variation]:
    """The forms of a mistake that families alone can make."""
    del case
    return iter(())


_OF_FAMILIES = (
    Mistake("pooler_token", "The pooler takes the wrong token.", Level.FORWARD, _nothing),
    Mistake("relative_shift", "Relative scores are shifted by one.", Level.FORWARD, _nothing, alike="positions"),
    Mistake("segment_matrix_dropped", "Segments add nothing to scores.", Level.FORWARD, _nothing),
    Mistake("decoder_untied", "The decoder is not the word table.", Level.BACKWARD, _nothing),
)

CATALOGUE: tuple[Mistake, ...] = (
    *settings.MISTAKES,
    *graph.MISTAKES,
    *_OF_FAMILIES,
    *embeddings.MISTAKES,
    *weights.MISTAKES,
    *precision.MISTAKES,
    *training.MISTAKES,
)


def forms(mistake: Mistake, case: Case) -> Iterator[Variation]:
    """The ways to make a mistake in a model, its family's own first."""
    if case.spec.mistakes is not None:
        yield from case.spec.mistakes(case.config, case.build).get(mistake.name, ())
    yield from mistake.forms(case)


def names(catalogue: Sequence[Mistake] = CATALOGUE) -> tuple[str, ...]:
    """Of all mistakes, each once: one may be made of weights as well as in the graph."""
    return tuple(dict.fromkeys(mistake.name for mistake in catalogue))

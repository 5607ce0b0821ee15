"""What decides about pairs: the alignment, then values out of order, then what contradicts itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from porting.parity.mapping import Ambiguous
from porting.parity.matching.alignment import Aligned
from porting.parity.matching.evidence import AGREE, UNRELATED, distance, pair_evidence, words
from porting.parity.matching.search import Search

LIKELY = 0.8
"""Confidence below which a pair is not taken: a common shape and the order alone give up to 0.7."""

APART = 0.05
"""Distance of values that is no rounding, in any precision."""


def in_order(search: Search, aligned: Sequence[Aligned]) -> None:
    """Take what the alignment makes clear; mark what it leaves open."""
    for found in aligned:
        source, target = search.named(0, found.source), search.named(1, found.target)
        rivals = [search.named(1, place) for side, place in found.rivals if side == 0]
        others = [search.named(0, place) for side, place in found.rivals if side == 1]
        if rivals or others:
            reason = "equal evidence for " + " and ".join(
                [*(f"{source} = {name}" for name in (target, *rivals)), *(f"{name} = {target}" for name in others)]
            )
            search.ambiguous.append(Ambiguous(source, (target, *rivals), reason))
        elif found.confidence < LIKELY:
            reason = f"weak evidence: shapes fit, and little else does (confidence {found.confidence:.2f})"
            search.ambiguous.append(Ambiguous(source, (target,), reason))
        else:
            search.pairs[found.source] = found, _why(search, found)


def _why(search: Search, found: Aligned) -> str:
    """What speaks for a pair, in words."""
    a, b = (search.members[side][place] for side, place in enumerate((found.source, found.target)))
    apart, scaled = (search.apart(found.source, found.target, scale=scale) for scale in (False, True))
    reasons = ["order", "shape" if a.summary.shape == b.summary.shape else "shape up to axes"]
    if apart < AGREE:
        reasons.insert(0, f"values (apart {apart:.0e})")
    elif scaled < AGREE and a.summary.l2:
        reasons.insert(0, f"values up to a factor of {b.summary.l2 / a.summary.l2:.4g}")
    else:
        reasons.append(f"values differ (apart {apart:.1g})")
    if words(a.name) & words(b.name):
        reasons.append("names")
    return ", ".join(reasons)


def out_of_order(search: Search) -> None:
    """Pair what agrees in its values with exactly one other, among what is left."""
    named = {name for one in search.ambiguous for name in (one.source, *one.targets)}
    left = [[i for i in search.open(side) if search.named(side, i) not in named] for side in (0, 1)]
    if not left[0] or not left[1]:
        return
    sides = [[search.members[side][i] for i in left[side]] for side in (0, 1)]
    apart = distance([one.summary for one in sides[0]], [one.summary for one in sides[1]])
    near = (apart < AGREE) & np.isfinite(pair_evidence(sides[0], sides[1]))
    for row, i in enumerate(left[0]):
        (columns,) = np.nonzero(near[row])
        if len(columns) == 1 and near[:, columns[0]].sum() == 1:
            j = left[1][columns[0]]
            confidence = 1 / (1 + float(np.exp(UNRELATED)))
            search.pairs[i] = Aligned(i, j, confidence), f"values (apart {apart[row, columns[0]]:.0e}), out of order"
        elif len(columns):
            names = tuple(search.named(1, left[1][column]) for column in columns)
            search.ambiguous.append(Ambiguous(search.named(0, i), names, "equal values, and another order"))


def doubt_what_heals(search: Search) -> None:
    """Mark pairs whose values differ although values after them agree: a mistake would have been carried on.

    So they are two tensors: one side's is taken after an activation, the other's before. Or a branch ends there.
    """
    apart = {i: search.apart(i, found.target) for i, (found, _) in search.pairs.items()}
    first: dict[str, int] = {}
    for i, one in enumerate(search.members[0]):
        first.setdefault(one.summary.hash, i)  # the model's output lists again what was computed before
    last = max((first[search.members[0][i].summary.hash] for i, off in apart.items() if off < AGREE), default=-1)
    for i in [i for i, off in apart.items() if off > APART and i < last]:
        found, _ = search.pairs.pop(i)
        reason = (
            f"values differ (apart {apart[i]:.1g}), and yet those after it agree: not the same tensor "
            "(taken before an activation, and after it), or a branch of its own"
        )
        search.ambiguous.append(Ambiguous(search.named(0, i), (search.named(1, found.target),), reason))

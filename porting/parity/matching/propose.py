"""Proposes a mapping between two captures; see porting.parity.mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from porting.parity.capture import Summary
from porting.parity.mapping import SIDES, Correspondence, LeftOut, Matched, Part, Side, completed
from porting.parity.matching.alignment import Array, align
from porting.parity.matching.evidence import OWNERS, Member, owned_weights, owner, pair_evidence, words
from porting.parity.matching.folded import folds, unfolded
from porting.parity.matching.permuted import with_axes
from porting.parity.matching.search import Search, last_part, summaries
from porting.parity.matching.steps import doubt_what_heals, in_order, out_of_order
from porting.parity.reader import Capture

_ROLES = (("weight", "kernel", "gamma", "embeddings", "table"), ("bias", "beta"), ("mean",), ("var", "variance"))
_ROLE_WORDS = re.compile(
    "moving_|running_|" + "|".join(sorted((word for role in _ROLES for word in role), reverse=True))
)

_COUNTERS = {"num_batches_tracked": "PyTorch's count of training batches, which a norm with a momentum does not use"}
"""Buffers that only one framework has and nothing is computed from: torch.nn.modules.batchnorm."""


def propose_mapping(source: Capture, target: Capture) -> Correspondence:
    """Pair the taps and the weights of two captures of one model. Reads summaries, and a sample of stored tensors.

    Two passes: an alignment that keeps the order of execution (of definition, for weights), then, out of order, what
    agrees in its values and has no partner yet, as branches are written in any order.
    """
    taps = _matched("taps", source, target, None)
    weights = _matched("weights", source, target, taps)
    return Correspondence(_title(source), _title(target), taps, weights)


def _title(capture: Capture) -> str:
    return f"{capture.manifest.model} in {capture.manifest.backend}"


def _matched(part: Part, source: Capture, target: Capture, taps: Matched | None) -> Matched:
    members = (_members(source, part), _members(target, part))
    search = Search(part, (source, target), members, {}, [])
    evidence = pair_evidence(*members)
    if taps is not None:
        evidence = evidence + _by_owner(members, (source, target), taps)
    keys = [[one.summary.hash if part == "taps" else i for i, one in enumerate(side)] for side in members]
    in_order(search, align(evidence, (keys[0], keys[1])))
    out_of_order(search)
    if part == "taps":
        doubt_what_heals(search)
    return _finished(search, taps)


def _members(capture: Capture, part: Part) -> list[Member]:
    """Taps with the sizes of their modules' weights; weights, within a module in one order for all frameworks."""
    known = summaries(capture, part)
    if part == "taps":
        owned = owned_weights(list(known), summaries(capture, "weights"))
        return [
            Member(one, tuple(sorted(tuple(sorted(w.shape)) for w in owned.get(name, ()) if len(w.shape))))
            for name, one in known.items()
        ]
    groups: dict[str, list[Summary]] = {}
    for name, one in known.items():
        groups.setdefault(_module(name), []).append(one)
    return [Member(one) for group in groups.values() for one in sorted(group, key=lambda s: _role(s.name))]


def _module(weight: str) -> str:
    """What the weights of one layer have in common: the name without the words that say which of them it is.

    >>> _module("body.0.weight"), _module("fc1_kernel"), _module("bn/moving_mean")
    ('body.0.', 'fc1_', 'bn/')
    """
    own = last_part(weight)
    return weight.removesuffix(own) + _ROLE_WORDS.sub("", own)


def _role(weight: str) -> int:
    """Kernels, then biases, means, variances, then the rest."""
    found = words(last_part(weight)) | {last_part(weight)}
    return next((i for i, role in enumerate(_ROLES) if found & set(role)), len(_ROLES))


def _by_owner(members: tuple[list[Member], list[Member]], captures: tuple[Capture, Capture], taps: Matched) -> Array:
    """Evidence from the modules: weights of modules whose taps are paired, against those of others."""
    partner = {pair.source: pair.target for pair in taps.pairs}
    taken = set(partner.values())
    known = [set(summaries(capture, "taps")) for capture in captures]
    owners = [[owner(one.name, names) for one in side] for side, names in zip(members, known, strict=True)]
    found = np.zeros((len(owners[0]), len(owners[1])))
    for i, mine in enumerate(owners[0]):
        for j, theirs in enumerate(owners[1]):
            if mine and theirs and (mine in partner or theirs in taken):
                found[i, j] = 2 * OWNERS if partner.get(mine) == theirs else -OWNERS
    return found


def _finished(search: Search, taps: Matched | None) -> Matched:
    """Pairs with their axes; what needs no partner, and what has none."""
    pairs = with_axes(search)
    pairs = list(unfolded(search, pairs, folds(search.captures[1], pairs if taps is None else taps.pairs)))
    found = Matched(tuple(pairs), tuple(search.ambiguous))
    names = {side: [one.name for one in members] for side, members in zip(SIDES, search.members, strict=True)}
    left_out = [one for place, side in enumerate(SIDES) for one in _needless(search, place, side, found)]
    return completed(replace(found, left_out=tuple(left_out)), names)


def _needless(search: Search, place: int, side: Side, found: Matched) -> Iterator[LeftOut]:
    """What needs no partner: the same bytes as a tap that has one, and counters of one framework."""
    told, paired = set(found.names(side)), set(found.decided(side))
    known = {one.summary.hash: one.name for one in search.members[place] if one.name in paired}
    for one in search.members[place]:
        if one.name in told:
            continue
        if search.part == "taps" and one.summary.hash in known:
            yield LeftOut(side, one.name, f"the same bytes as {known[one.summary.hash]}, which has a partner")
        elif search.part == "weights" and last_part(one.name) in _COUNTERS:
            yield LeftOut(side, one.name, _COUNTERS[last_part(one.name)])

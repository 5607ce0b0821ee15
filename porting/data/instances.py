"""Masked-LM and next-sentence instances from documents, with the draws of BERT's script in their order.

Every decision is one draw from the generator that is passed in, in the order of google-research/bert,
create_pretraining_data.py; a generator in the same state gives the same instances. Tokens are ids throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from porting.data.vocabulary import Vocabulary
from porting.errors import UsageError

Tokens = list[int]
Document = list[Tokens]
"""The ids of each sentence; no sentence is empty."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How instances are made; names and defaults are those of the script."""

    max_seq_length: int = 128
    max_predictions: int = 20
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    whole_word: bool = False

    def __post_init__(self) -> None:
        if self.max_seq_length < 5:
            raise UsageError(f"--max-seq-length: wanted 5 or more, got {self.max_seq_length}")
        for name, value in (("--max-predictions", self.max_predictions), ("--dupe-factor", self.dupe_factor)):
            if value < 1:
                raise UsageError(f"{name}: wanted 1 or more, got {value}")
        for name, share in (("--masked-lm-prob", self.masked_lm_prob), ("--short-seq-prob", self.short_seq_prob)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name}: wanted a share between 0 and 1, got {share}")


class Instance(NamedTuple):  # made by the million
    """A sequence with [CLS], [SEP], [SEP] and masks. first: ids of segment 0. labels: the ids under the masks."""

    ids: Tokens
    first: int
    positions: list[int]
    labels: Tokens
    random_next: bool


class Special:
    """What the draws need of a vocabulary. every: the ids of the distinct tokens, in the order of their lines."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        ids = vocabulary.ids
        self.cls, self.sep, self.mask = (ids[token] for token in ("[CLS]", "[SEP]", "[MASK]"))
        self.every = list(ids.values())
        self.inner = frozenset(number for token, number in ids.items() if token.startswith("##"))


def document_instances(
    documents: Sequence[Document], index: int, plan: Plan, special: Special, random: Random
) -> list[Instance]:
    """The instances of one document; the others give the random next sentences."""
    document, room = documents[index], plan.max_seq_length - 3
    target = random.randint(2, room) if random.random() < plan.short_seq_prob else room
    found: list[Instance] = []
    chunk: list[Tokens] = []
    length = at = 0
    while at < len(document):
        chunk.append(document[at])
        length += len(document[at])
        if at == len(document) - 1 or length >= target:
            end = random.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
            a = [token for sentence in chunk[:end] for token in sentence]
            random_next = len(chunk) == 1 or random.random() < 0.5
            if random_next:
                b = _random_next(documents, index, target - len(a), random)
                at -= len(chunk) - end  # what was not used is not lost
            else:
                b = [token for sentence in chunk[end:] for token in sentence]
            _shorten(a, b, room, random)
            found.append(_instance(a, b, plan, special, random, random_next=random_next))
            chunk, length = [], 0
        at += 1
    return found


def _random_next(documents: Sequence[Document], index: int, wanted: int, random: Random) -> Tokens:
    """The end of another document, from a random sentence on, as long as wanted. A few tries find another one."""
    chosen = index
    for _ in range(10):
        chosen = random.randint(0, len(documents) - 1)
        if chosen != index:
            break
    document = documents[chosen]
    found: Tokens = []
    for sentence in document[random.randint(0, len(document) - 1) :]:
        found += sentence
        if len(found) >= wanted:
            break
    return found


def _shorten(a: Tokens, b: Tokens, room: int, random: Random) -> None:
    """Take tokens from the front or the end of the longer text until both fit."""
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        if random.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


def _instance(a: Tokens, b: Tokens, plan: Plan, special: Special, random: Random, *, random_next: bool) -> Instance:
    ids = [special.cls, *a, special.sep, *b, special.sep]
    places: list[list[int]] = []
    for place, token in enumerate(ids):
        if place in {0, len(a) + 1, len(ids) - 1}:
            continue
        if plan.whole_word and places and token in special.inner:
            places[-1].append(place)
        else:
            places.append([place])
    random.shuffle(places)
    wanted = min(plan.max_predictions, max(1, round(len(ids) * plan.masked_lm_prob)))
    masked, count = list(ids), 0
    chosen: list[int] = []
    for word in places:
        if count >= wanted:
            break
        if count + len(word) > wanted:
            continue
        for place in word:
            masked[place] = _replacement(ids[place], special, random)
        chosen += word
        count += len(word)
    chosen.sort()
    return Instance(masked, len(a) + 2, chosen, [ids[place] for place in chosen], random_next)


def _replacement(token: int, special: Special, random: Random) -> int:
    """[MASK] in 8 of 10 cases, the token itself in one, any token in one."""
    if random.random() < 0.8:
        return special.mask
    if random.random() < 0.5:
        return token
    return special.every[random.randint(0, len(special.every) - 1)]

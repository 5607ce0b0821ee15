"""What the three models answer on the dev set, and how far the two students are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting.acceptance.resampling import bounds, drawn_measures
from porting.acceptance.task import wilson
from porting.backends.found import resolve
from porting.backends.names import BackendName
from porting.data.schema import read_schema
from porting.parity.subject import subject
from porting.train.batches import Records, load
from porting.train.start import open_trainee

LEVEL = 0.95
BATCH = 256
COLUMNS = ("input_ids", "input_mask", "segment_ids", "label_ids")

Array = np.ndarray[Any, np.dtype[Any]]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """accuracies: of each model with its interval (Wilson's). apart: distilled minus plain, on the same examples.

    interval: of `apart`, by a bootstrap over examples that are drawn for both students alike. chance: the share of the
    largest class, which whoever answers always the same gets.
    """

    examples: int
    accuracies: Mapping[str, tuple[float, Interval]]
    apart: float
    interval: Interval
    chance: float


def examples(file: Path) -> Records:
    """The records of a file of `port data glue`."""
    return load([file], read_schema(file.parent / "schema.json"), {name: name for name in COLUMNS}, {})


def answers(model: str, config: Path, checkpoint: Path, records: Records, labels: int) -> Array:
    """The class of the largest logit: (examples,)."""
    read = subject(model, config=config, checkpoint=checkpoint, task="classification", labels=labels)
    session = open_trainee(read, resolve(BackendName.parse("torch:cpu"))).session
    text = Records({name: array for name, array in records.arrays.items() if name != "label_ids"}, records.count)
    return np.concatenate([session.forward(batch)["logits"].argmax(axis=1) for batch in text.batches(BATCH)])


def outcome(found: Mapping[str, Array], labels: Array) -> Outcome:
    """found: the answers of `teacher`, `plain` and `distilled`."""
    shares = {name: float((each == labels).mean()) for name, each in found.items()}
    drawn = drawn_measures(["accuracy"], labels, [{"accuracy": found[name]} for name in ("plain", "distilled")])
    if drawn is None:
        raise ValueError("too few examples for an interval")
    plain, distilled = drawn["accuracy"]
    interval = bounds(distilled - plain, LEVEL)
    if interval is None:
        raise ValueError("the draws give no interval")
    return Outcome(
        len(labels),
        {name: (share, wilson(share, len(labels), LEVEL)) for name, share in shares.items()},
        shares["distilled"] - shares["plain"],
        interval,
        float(np.bincount(labels).max() / len(labels)),
    )


def lines(found: Outcome) -> list[str]:
    """A line for each model, and the one that this is all about."""
    said = [
        f"{name}: accuracy {share:.4f}, {LEVEL:.0%} interval {low:.4f} to {high:.4f}"
        for name, (share, (low, high)) in found.accuracies.items()
    ]
    distilled, plain = (found.accuracies[name][0] for name in ("distilled", "plain"))
    low, high = found.interval
    apart = f"{found.apart:+.4f}, {LEVEL:.0%} interval {low:+.4f} to {high:+.4f}"
    return [
        *said,
        f"chance: {found.chance:.4f}, the share of the largest class",
        f"distilled {distilled:.4f}, not distilled {plain:.4f}: {apart}, on the same {found.examples} definitions",
    ]

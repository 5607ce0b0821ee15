"""A mapping for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from porting.parity.mapping import PARTS, Correspondence, Matched


def mapping_lines(mapping: Correspondence) -> list[str]:
    """The pairs of each part in columns, then what is open."""
    lines = [f"{mapping.source}  ->  {mapping.target}"]
    for part in PARTS:
        lines += ["", f"{part}: {_count(mapping.part(part))}", *_part_lines(mapping.part(part))]
    return lines


def _count(matched: Matched) -> str:
    counts = {
        "pairs": len(matched.pairs),
        "ambiguous": len(matched.ambiguous),
        "left out": len(matched.left_out),
        "without a partner": sum(map(len, matched.unmatched.values())),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none on either side"


def _part_lines(matched: Matched) -> Iterator[str]:
    wide = max((len(pair.source) for pair in matched.pairs), default=0)
    other = max((len(pair.target) for pair in matched.pairs), default=0)
    for pair in matched.pairs:
        axes = f" {list(pair.axes)}" if pair.axes else ""
        yield f"  {pair.source:<{wide}}  {pair.target:<{other}}  {pair.confidence:.2f}  {pair.reason}{axes}"
    for one in matched.ambiguous:
        yield f"  AMBIGUOUS  {one.source} = {' or '.join(one.targets)}: {one.reason}"
    for left in matched.left_out:
        yield f"  left out   {left.name} ({left.side}): {left.reason}"
    for side, names in matched.unmatched.items():
        yield from (f"  UNMATCHED  {name} ({side})" for name in names)


def mapping_json(mapping: Correspondence) -> dict[str, Any]:
    """As JSON values."""
    return {**asdict(mapping), "settled": mapping.settled}

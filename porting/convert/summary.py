"""A ledger in words, and the words of the command's options as values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porting.checkpoint.dtypes import DTYPES
from porting.convert.ledger import Ledger, Record
from porting.convert.names import collapse
from porting.convert.table import Family
from porting.errors import UsageError
from porting.terminal import number, size

if TYPE_CHECKING:
    from porting.demo import Demo

FRAMEWORKS = {"tf": "tensorflow", "pt": "pytorch", "ms": "mindspore"}


def parse_direction(direction: str, to: str | None) -> tuple[str | None, str]:
    """Source framework (None for any) and target dialect or framework.

    >>> parse_direction("tf2ms", None)
    ('tensorflow', 'mindspore')

    Raises: UsageError.
    """
    if direction == "any":
        if to is None:
            raise UsageError("any: wanted --to DIALECT")
        return None, to
    source, _, target = direction.partition("2")
    if source not in FRAMEWORKS or target not in FRAMEWORKS or source == target:
        pairs = ", ".join(f"{a}2{b}" for a in FRAMEWORKS for b in FRAMEWORKS if a != b)
        raise UsageError(f"direction {direction}: wanted one of {pairs}, or any with --to DIALECT")
    return FRAMEWORKS[source], to or FRAMEWORKS[target]


def parse_layers(text: str | None) -> tuple[int, ...] | None:
    """Layers in target order.

    >>> parse_layers("3,7,9-11")
    (3, 7, 9, 10, 11)

    Raises: UsageError.
    """
    if text is None:
        return None
    layers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:-([0-9]{1,6}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UsageError(f"--layers {text}: wanted 0-2 or 3,7,11, got {part!r}")
        layers += range(first, last + 1)
    if len(set(layers)) != len(layers):
        raise UsageError(f"--layers {text}: a layer is named twice")
    return tuple(layers)


def parse_size(text: str | None) -> int | None:
    """Bytes; units are powers of 1000.

    >>> parse_size("2GB")
    2000000000

    Raises: UsageError.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(|[kKMGT]i?B?|B)", text.strip())
    unit = match[2].upper().rstrip("B") if match else ""
    base = 1024 if unit.endswith("I") else 1000
    count = int(float(match[1]) * base ** " KMGT".index(unit[:1] or " ")) if match else 0
    if not count:
        raise UsageError(f"--shard-size {text}: wanted a size such as 500MB or 2GB")
    return count


def parse_pairs(lines: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE lines. Raises: UsageError."""
    pairs: dict[str, str] = {}
    for line in lines or ():
        key, mark, value = line.partition("=")
        if not mark or not key or not value:
            raise UsageError(f"--set {line}: wanted KEY=VALUE")
        pairs[key] = value
    return pairs


def ledger_lines(ledger: Ledger) -> list[str]:
    """The ledger's tensors as an aligned table, layers collapsed."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in ledger.tensors:
        key = (re.sub(r"[0-9]+", "#", record.target), " ".join(record.operation), str(record.shape), record.dtype)
        rows.setdefault(key, []).append(record)
    table: list[tuple[str, ...]] = []
    for line, records in rows.items():
        sources = collapse([name for record in records for name in record.sources])
        more = f" and {len(sources) - 2} more" if len(sources) > 2 else ""
        table += [
            (", ".join(sources[:2]) + more, line[1], target, f"{line[3]} {line[2]}")
            for target in collapse([record.target for record in records])
        ]
    widths = [max((len(line[i]) for line in table), default=0) for i in range(3)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, [*widths, 0], strict=True)).rstrip()
        for cells in table
    ]


def summary(ledger: Ledger, *, dry_run: bool = False) -> list[str]:
    """What happened, in one line, and a line for each thing that a reader must not miss."""
    total = sum(_bytes(record) for record in ledger.tensors)
    slots = sum(record.slot is not None for record in ledger.tensors)
    operations = Counter(step for record in ledger.tensors for step in record.operation if step != "copy")
    moved = ", ".join(f"{count} {_verb(step)}" for step, count in operations.most_common(4)) or "all copied"
    done = "would write" if dry_run else "verified" if ledger.verified else "written, not read back"
    tensors = f"{len(ledger.tensors) - slots} tensors{f' and {slots} slots' if slots else ''}"
    amounts = f"{tensors}, {number(ledger.parameters)} parameters, {size(total)}, {moved}"
    route = f"{ledger.family}: {ledger.source.dialect} -> {ledger.target.dialect}"
    lines = [f"{route}  {amounts}; {done}: {ledger.target.path}"]
    if ledger.absent_groups:
        lines.append(f"  not in the source: {', '.join(ledger.absent_groups)}")
    reasons: dict[str, list[str]] = {}
    for line in ledger.dropped:
        reasons.setdefault(line["reason"], []).append(line["name"])
    lines += [
        f"  dropped: {', '.join(collapse(names)[:6])}{_more(collapse(names))}: {reason}"
        for reason, names in reasons.items()
    ]
    for title, names in (("missing, as allowed", ledger.missing), ("left out, as allowed", ledger.unexpected)):
        if names:
            lines.append(f"  {title}: {', '.join(collapse(names)[:6])}{_more(collapse(names))}")
    return lines + [f"  note: {note}" for note in ledger.notes]


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 6} more" if len(names) > 6 else ""


def _verb(step: str) -> str:
    return {"transpose": "transposed"}.get(step, step)


def _bytes(record: Record) -> int:
    count = DTYPES[record.dtype].itemsize
    for axis in record.shape:
        count *= axis
    return count


def family_lines(families: Mapping[str, Family]) -> list[str]:
    """Each family with its dialects, scopes and groups."""
    lines: list[str] = []
    for family in families.values():
        lines.append(f"{family.name}  table {family.version}")
        for dialect in family.dialects:
            scopes = ", ".join(repr(scope.prefix("base")) for scope in dialect.scopes)
            lines.append(f"  {dialect.name:14} {dialect.framework:10}  prefixes {scopes}")
        lines.append(f"  groups         {', '.join(group.name for group in family.groups)}")
    return lines


def families_json(families: Mapping[str, Family]) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        family.name: {
            "table": family.version,
            "dialects": {d.name: {"framework": d.framework, "format": d.format} for d in family.dialects},
            "groups": [group.name for group in family.groups],
        }
        for family in families.values()
    }


def demo_lines(demo: Demo) -> list[str]:
    """The demo: its commands, the first ledger, and the proof."""
    lines = [
        f"made {demo.folder}/bert_model.ckpt: a random BERT, 2 layers, hidden 128, in Google's TensorFlow format",
        "",
    ]
    for step in demo.steps:
        lines += [f"$ {step.what}", *summary(step.ledger), ""]
    lines += ["the ledger of the first conversion (bert_mindspore.ckpt.port.json):", ""]
    lines += [f"  {line}" for line in ledger_lines(demo.steps[0].ledger)]
    proof = "equal bit for bit" if demo.proved else f"DIFFERENT: {', '.join(demo.differing)}"
    return [*lines, "", f"back from MindSpore and from PyTorch: {demo.compared} tensors compared, {proof}"]

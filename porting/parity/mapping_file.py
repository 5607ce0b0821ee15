"""A mapping as a TOML file that a person corrects, and its strict reading."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from porting.checkpoint.output import write_text
from porting.errors import FormatError, MismatchError
from porting.parity.mapping import (
    PARTS,
    SIDES,
    Ambiguous,
    Correspondence,
    LeftOut,
    Matched,
    Pairing,
    Part,
    Side,
    completed,
)

_HEAD = """\
# Which tensor of the source is which of the target. Correct it, and give it to `port compare --mapping`.
#
# [[taps.pair]]       source, target; axes: target.transpose(axes) lies like the source, [] where it does as it is.
#                     split: the shape that the target is given before that, where it folds axes in another order.
#                     confidence and reason say why the pair was proposed; they may be left away.
# [[taps.ambiguous]]  nothing decides: make a pair of it, or move its names elsewhere. Not compared as it stands.
# [[taps.left_out]]   needs no partner, for the reason given.
# [taps.unmatched]    has no partner: pair it, or leave it out with a reason. Until then no comparison passes.
#
# The same for weights; gradients and the optimizer's moments follow their weights.
"""

_KEYS: Mapping[str, Mapping[str, type]] = {
    "pair": {"source": str, "target": str, "axes": list, "split": list, "confidence": float, "reason": str},
    "ambiguous": {"source": str, "targets": list, "reason": str},
    "left_out": {"side": str, "name": str, "reason": str},
}
_OPTIONAL = {"axes", "split", "confidence"}


def write_mapping(mapping: Correspondence, path: Path, *, overwrite: bool = False) -> Path:
    """Write the file. Raises: UsageError if it exists and `overwrite` is false; FormatError if it cannot be written."""
    return write_text(path, mapping_text(mapping), overwrite=overwrite)


def mapping_text(mapping: Correspondence) -> str:
    """The file's text.

    >>> print(mapping_text(Correspondence("A", "B", Matched((Pairing("fc", "dense"),)), Matched())).split("#")[-1])
     The same for weights; gradients and the optimizer's moments follow their weights.
    <BLANKLINE>
    source = "A"
    target = "B"
    <BLANKLINE>
    [[taps.pair]]
    source = "fc"
    target = "dense"
    axes = []
    confidence = 1.0
    reason = ""
    <BLANKLINE>
    """
    blocks = [f"{_HEAD}\nsource = {_toml(mapping.source)}\ntarget = {_toml(mapping.target)}"]
    for part in PARTS:
        blocks += _blocks(part, mapping.part(part))
    return "\n\n".join(blocks) + "\n"


def _blocks(part: Part, matched: Matched) -> Iterator[str]:
    for kind, rows in (("pair", matched.pairs), ("ambiguous", matched.ambiguous), ("left_out", matched.left_out)):
        for row in rows:
            keys = (key for key in _KEYS[kind] if key != "split" or getattr(row, key))
            lines = (f"{key} = {_toml(getattr(row, key))}" for key in keys)
            yield "\n".join((f"[[{part}.{kind}]]", *lines))
    if any(matched.unmatched.values()):
        sides = (f"{side} = {_listed(matched.unmatched.get(side, ()))}" for side in SIDES)
        yield "\n".join((f"[{part}.unmatched]", *sides))


def _listed(names: Iterable[str]) -> str:
    """A line for each, so that it is moved with an editor's cut and paste."""
    lines = "".join(f"  {_toml(name)},\n" for name in names)
    return f"[\n{lines}]" if lines else "[]"


def _toml(value: object) -> str:
    """A string, a number or a list. JSON's are TOML's, but for the one control character that JSON lets stand."""
    listed = list(value) if isinstance(value, tuple) else value
    return json.dumps(listed, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_mapping(path: Path, names: Mapping[Part, Mapping[Side, Iterable[str]]]) -> Correspondence:
    """Read the file strictly. names: what the two captures have; what the file does not mention is unmatched.

    Raises: FormatError for what is no TOML or has keys that mean nothing; MismatchError listing every name that
    neither capture has or that is used twice.
    """
    found = _parsed(path)
    parts = {part: _part(path, part, found.pop(part, {})) for part in PARTS}
    titles = {side: found.pop(side, "") for side in SIDES}
    wrong = [*found] + [side for side in SIDES if not isinstance(titles[side], str)]
    if wrong:
        raise FormatError(path, wrong[0], f"wanted source, target, {', '.join(PARTS)}")
    problems: list[str] = []
    for part in PARTS:
        known = {side: list(names[part][side]) for side in SIDES}
        problems += _problems(part, parts[part], known)
        parts[part] = completed(parts[part], known)
    if problems:
        raise MismatchError(f"{path}: does not fit the captures", problems)
    return Correspondence(titles["source"], titles["target"], parts["taps"], parts["weights"])


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"is no TOML: {error}") from None


def _part(path: Path, part: Part, table: Any) -> Matched:
    """One part as the file has it. Raises: FormatError."""
    if not isinstance(table, dict) or set(table) - {*_KEYS, "unmatched"}:
        raise FormatError(path, part, f"wanted {', '.join(_KEYS)} and unmatched, got {', '.join(map(str, table))}")
    rows = {kind: [_row(path, f"{part}.{kind}", kind, row) for row in table.get(kind, ())] for kind in _KEYS}
    unmatched = table.get("unmatched", {})
    if not isinstance(unmatched, dict) or set(unmatched) - set(SIDES) or not all(map(_names, unmatched.values())):
        raise FormatError(path, f"{part}.unmatched", "wanted source and target, lists of names")
    return Matched(
        tuple(
            Pairing(**{**row, "axes": tuple(row.get("axes", ())), "split": tuple(row.get("split", ()))})
            for row in rows["pair"]
        ),
        tuple(Ambiguous(**{**row, "targets": tuple(row["targets"])}) for row in rows["ambiguous"]),
        tuple(LeftOut(**row) for row in rows["left_out"]),
        {side: tuple(unmatched.get(side, ())) for side in SIDES},
    )


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _row(path: Path, place: str, kind: str, row: Any) -> dict[str, Any]:
    """One table, checked. Raises: FormatError naming the key that is wrong."""
    keys = _KEYS[kind]
    at = f"{place} {row.get('source', row.get('name', ''))}" if isinstance(row, dict) else place
    optional = _OPTIONAL | ({"reason"} if kind == "pair" else set())
    if not isinstance(row, dict) or set(row) - set(keys) or set(keys) - set(row) - optional:
        raise FormatError(path, at, f"wanted {', '.join(keys)}")
    for key, value in row.items():
        fits = isinstance(value, (int, float)) if keys[key] is float else isinstance(value, keys[key])
        if not fits or (key == "targets" and not _names(value)):
            raise FormatError(path, at, f"{key}: wanted {keys[key].__name__}, got {value!r}")
    axes = row.get("axes", [])
    if axes and sorted(map(repr, axes)) != sorted(map(repr, range(len(axes)))):
        raise FormatError(path, at, f"axes: wanted a permutation of {list(range(len(axes)))}, got {axes}")
    if any(type(size) is not int or size < 1 for size in row.get("split", [])):
        raise FormatError(path, at, f"split: wanted sizes, got {row['split']}")
    if kind == "left_out" and (row["side"] not in SIDES or not row["reason"].strip()):
        raise FormatError(path, at, "wanted side `source` or `target`, and a reason")
    return row


def _problems(part: Part, matched: Matched, known: Mapping[Side, list[str]]) -> Iterator[str]:
    for side in SIDES:
        names = matched.decided(side)
        doubtful = [name for one in matched.ambiguous for name in one.names(side)]
        there = set(known[side])
        yield from (f"{part}: {name}: the {side} has no such tensor" for name in sorted({*names, *doubtful} - there))
        counts = Counter([*names, *set(doubtful)])
        twice = [name for name, count in counts.items() if count > 1]
        yield from (f"{part}: {name}: stands twice on the side of the {side}" for name in sorted(twice))

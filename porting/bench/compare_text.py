"""A comparison of two matrices for people: what differs, then a row per cell."""

from __future__ import annotations

from collections.abc import Iterator

from porting.bench.compare import Comparison, Pair, Ratio
from porting.bench.table import HEADS

COLUMNS = ("step_time", "average_power", "average_utilization", "peak_memory", "peak_rss", "eval_loss", "eval_accuracy")
"""Those that a row has; `--json` has all."""


def comparison_lines(found: Comparison) -> list[str]:
    """All of it."""
    lines = [f"{found.second} over {found.first}"]
    lines += [f"  differs: {text}" for text in found.facts]
    if found.differing:
        lines += [f"  not compared, another {text}" for text in found.differing]
    lines += list(_table([pair for pair in found.pairs if pair.ratios]))
    lines += [f"  {pair.name}: not compared: {pair.problem}" for pair in found.pairs if pair.problem]
    lines += [f"  {pair.name}: slower than x {found.limit:g}" for pair in found.pairs if pair.slower]
    lines += [f"  only in {side}: {name}" for side, names in (found.only or {}).items() for name in names]
    lines += list(_missing(found.pairs))
    if any(ratio.low is not None for pair in found.pairs for ratio in pair.ratios):
        lines.append("  intervals (95 %) are of what varies within these two runs: between runs, more may")
    if not found.pairs and not found.differing:
        lines.append("  no cell that both sides have")
    return lines


def _table(pairs: list[Pair]) -> Iterator[str]:
    rows = [["", *(f"{HEADS[name]}{' -' if name == 'eval_accuracy' else ' x'}" for name in COLUMNS)]]
    for pair in pairs:
        known = {ratio.figure: ratio for ratio in pair.ratios}
        rows.append([pair.name, *(_cell(known.get(name)) for name in COLUMNS)])
    used = [place for place in range(len(rows[0])) if place == 0 or any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in used}
    if pairs:
        yield from ("  " + "  ".join(row[place].ljust(widths[place]) for place in used).rstrip() for row in rows)


def _cell(ratio: Ratio | None) -> str:
    """`1.03 (1.01 to 1.05)`; without an interval where there is none."""
    if ratio is None:
        return ""
    if ratio.figure == "eval_accuracy":
        return f"{100 * ratio.value:+.2f} ({100 * (ratio.low or 0):+.2f} to {100 * (ratio.high or 0):+.2f})"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.4g}"
    return f"{ratio.value:.4g} ({ratio.low:.4g} to {ratio.high:.4g})"


def _missing(pairs: tuple[Pair, ...]) -> Iterator[str]:
    """What was not compared within cells, by reason, and ratios that want an interval."""
    reasons: dict[str, dict[str, None]] = {}
    for pair in pairs:
        for figure, reason in (pair.missing or {}).items():
            reasons.setdefault(reason, {})[HEADS[figure]] = None
        for ratio in pair.ratios:
            if ratio.reason and ratio.reason != "one number a run":
                reasons.setdefault(f"no interval: {ratio.reason}", {})[HEADS[ratio.figure]] = None
    yield from (f"  {', '.join(names)}: {reason}" for reason, names in reasons.items())

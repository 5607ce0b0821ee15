"""Makes docs/mistakes.md: what parity and diagnosis say of every plant. `python tests/mutation/table.py`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from all_plants import PLANTS, family
from judged import judged

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"

HEAD = """# Mistakes that are caught

Made by `python tests/mutation/table.py`; do not edit. Each row is a mistake planted in a port's source
(tests/mutation: a text of the port is replaced by what somebody would have written), on the [probe's](probe.md) weights
and batch, tiny configs. The source is the clean port in PyTorch, on a CPU.

*Level* is the first at which `port compare` sees a difference; none of them passes. *Place* is the first that deviates
while its inputs agree (teacher forcing). *Floors* is the deviation there in units of the noise floor, before and after
the named mistake is made in the reference as well: an honest port is within 4. Where only sizes can be compared
(rounding, chance) the second number is that of two different runs of the same mistake. *Named* is what `port diagnose`
says, and what does the same on this batch.
"""


def rows(plants, folder):
    """A row of the page for each plant, and whether it was caught and named."""
    for plant in plants:
        found = judged(plant, folder)
        yield plant, found
        sys.stderr.write(f"{plant.name}: {found.state} {found.level}, {_given(found)}\n")


def page(judgements):
    """The text of the page."""
    counts = {}
    for plant, found in judgements:
        one = counts.setdefault((family(plant), plant.framework), [0, 0, 0])
        one[0] += 1
        one[1] += found.state != "PASS"
        one[2] += found.named
    lines = [HEAD, "| family | port | planted | caught | named |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {framework} | {a} | {b} | {c} |" for (name, framework), (a, b, c) in counts.items()]
    for name, framework in counts:
        lines += [
            "",
            f"## {name}, {framework}",
            "",
            "| mistake | how, and in which task | level | place | floors | named |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        lines += [_row(p, found) for p, found in judgements if (family(p), p.framework) == (name, framework)]
    return "\n".join(lines) + "\n"


def _row(plant, found):
    first = found.diagnosis.first
    place = "" if first is None else f"{first.level} {first.what}" + (f" ({first.mode})" if first.mode else "")
    return f"| {cell(plant)} | {found.level} | {place} | {_floors(found)} | {_given(found)} |"


def cell(plant):
    """What stands of a plant in the first two columns."""
    where = plant.task if plant.model != "roberta" else f"roberta {plant.task}"
    return f"{plant.accepted[0]} | {plant.note or 'everywhere'}, {where}"


def _floors(found):
    if not found.diagnosis.explanations:
        return ""
    first = found.diagnosis.explanations[0]
    return f"{first.before:.2g} -> {first.after:.2g}"


def _given(found):
    if not found.diagnosis.explanations:
        return "nothing explains it"
    first = found.diagnosis.explanations[0]
    return ", ".join((first.mistake, *first.alike))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as room:
        PAGE.write_text(page(list(rows(PLANTS, Path(room)))), encoding="utf-8")

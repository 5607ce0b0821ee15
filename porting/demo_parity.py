"""The demo's second half: the converted weights on two frameworks, and the report. What is not installed is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

TARGETS = {"mindspore": "mindspore:cpu", "tensorflow": "tensorflow:cpu"}
"""Frameworks by what comes first; without either, PyTorch's port on the emulated NPU."""

REPORT = ("jinja2", "plotly")


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of it. passed: of the parity; None if nothing was run. lines: what is shown."""

    passed: bool | None
    lines: tuple[str, ...]


def demo_parity(folder: Path, tell: Callable[[str], None] | None = None) -> Shown:
    """Run the demo's checkpoint on PyTorch and on another framework, compare, and write the report.

    folder: of the demo; `parity` and `report` are made in it. Raises: what `parity` and `accept` raise.
    """
    if find_spec("torch") is None:
        return Shown(None, ("parity: NOT RUN, PyTorch is not installed: pip install -c constraints.txt -e '.[all]'",))
    from porting.parity.compare_text import summary_lines
    from porting.parity.parity import parity
    from porting.parity.subject import subject

    target = next((name for module, name in TARGETS.items() if find_spec(module)), "npu")
    weights = folder / "bert_mindspore.ckpt"
    asked = subject("bert", checkpoint=weights, config=folder / "bert_config.json", task="pretraining")
    found = parity(asked, "torch:cpu", target, output=folder / "parity", tell=tell)
    command = f"$ port parity bert --checkpoint {weights.name} --task pretraining --target {target} -o parity"
    lines = (command, *summary_lines(found))
    passed = found.overall.state.value == "PASS"
    if any(find_spec(module) is None for module in REPORT):
        return Shown(passed, (*lines, "", "report: NOT RUN: pip install -c constraints.txt -e '.[report]'"))
    return Shown(passed, (*lines, "", *_report(folder)))


def _report(folder: Path) -> list[str]:
    """The report of what was compared: no training was run, so it is no acceptance, and says so."""
    from porting.acceptance.accept import accept
    from porting.report.text import text_lines
    from porting.report.words import words_in
    from porting.report.write import write_report

    run, words = [str(folder / "parity")], words_in("en")
    found = accept(run, run)
    place = write_report(found, folder / "report", words=words)
    head = list(takewhile(bool, text_lines(found, words)))
    return ["$ port accept --source parity --target parity -o report", *head, "", f"open {place / 'report.html'}"]

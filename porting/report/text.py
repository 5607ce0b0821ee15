"""An acceptance on a terminal: the verdict, the chain, what to look at next, in a screenful."""

from __future__ import annotations

from collections.abc import Iterator

from porting.acceptance.acceptance import Acceptance
from porting.acceptance.verify import Checked
from porting.convert.columns import aligned
from porting.report.view import view
from porting.report.words import Words

WIDTH = 100
"""Characters of a reason on a terminal; the whole of it stands in the report."""


def text_lines(found: Acceptance, words: Words) -> Iterator[str]:
    """The lines, plain."""
    shown = view(found, words)
    yield f"{shown['state_name']}  {shown['sides']}"
    yield from (f"  {text}" for _, text in shown["headline"])
    yield ""
    yield from aligned(
        [(one.level, one.question, one.name, one.covered, _short(one.why)) for one in shown["levels"]], right=(3,)
    )
    if shown["speed"] and shown["speed"]["ratio"]:
        yield ""
        yield from (f"{words('speed')}, {name}: {text}" for name, text in shown["speed"]["ratio"])
    if shown["advice"]:
        yield from ("", f"{words('next')}:")
        yield from (f"  {number}. {text}" for number, text in enumerate(shown["advice"], 1))


def checked_lines(checked: Checked) -> Iterator[str]:
    """What `port verify` says of a report."""
    yield from checked.problems
    signed = checked.signed
    if signed is not None and not signed.problem:
        by = f"by {signed.who}" if signed.who else "whose it is, --signers FILE tells"
        yield f"signed with the key {signed.key}, {by}"
    elif signed is None:
        yield "not signed: the hashes tell an accident, not a forger"
    verdict = "holds" if checked.holds else "does not hold"
    yield f"{verdict}: {checked.compared} files read again; the report says {checked.state}"


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 2]} …"

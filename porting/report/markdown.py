"""An acceptance as Markdown, for a pull request or a wiki: what the HTML says, without its curves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from porting.acceptance.acceptance import Acceptance
from porting.report.view import view
from porting.report.words import Words

_MARKED = re.compile(r"([\\`*_\[\]#|~$])")


def plain(text: str) -> str:
    r"""Text that Markdown shows as it stands, in a table too.

    >>> print(plain("<b>a|b_c</b>"))
    &lt;b&gt;a\|b\_c&lt;/b&gt;
    """
    return _MARKED.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def markdown(found: Acceptance, words: Words, *, signer: str = "") -> str:
    """The report. signer: what the sign-off block says of the key."""
    shown = view(found, words)
    lines = [*_top(shown, words), *_chain(shown, words), *_measured(shown, words), *_ground(shown, words)]
    lines += ["", f"## {words('sign_off')}", "", plain(signer or words("sign_off_unsigned")), ""]
    lines += _table([words("sign_off_name"), words("sign_off_date"), words("sign_off_signature")], [(" ", " ", " ")])
    return "\n".join(lines) + "\n"


def _top(shown: dict[str, Any], words: Words) -> Iterator[str]:
    yield f"# {words('title')}: {plain(shown['sides'])}"
    yield ""
    yield f"**{shown['state_name']}**"
    yield ""
    yield from (f"- {plain(text)}" for _, text in shown["headline"])
    yield from _head(words("next"))
    yield from (f"{number}. {plain(text)}" for number, text in enumerate(shown["advice"], 1))
    if not shown["advice"]:
        yield plain(words("no_next"))


def _chain(shown: dict[str, Any], words: Words) -> Iterator[str]:
    yield from _head(words("chain"))
    head = [words(key) for key in ("level", "question", "state", "compared", "why")]
    yield from _table(head, ((one.level, one.question, one.name, one.covered, one.why) for one in shown["levels"]))
    columns = ("what", "name", "measure", "value", "limit", "source", "why")
    head = [words(key) for key in ("what", "state", "measure", "value", "limit", "limit_from", "why")]
    for level in shown["levels"]:
        if level.shown:
            yield from ("", f"### {plain(level.title)}", "")
            yield from _table(head, (tuple(row[column] for column in columns) for row in level.shown))
            if level.hidden:
                yield from ("", plain(level.hidden))


def _measured(shown: dict[str, Any], words: Words) -> Iterator[str]:
    sides = [words("source"), words("target")]
    yield from _head(words("curves"))
    tables = [table for table in shown["curve_tables"] if table]
    for table in tables:
        head = [f"{table['name']}, {words('step')}", *sides, words("difference"), "%"]
        yield from (*_table(head, table["rows"]), "")
    if not tables:
        yield plain(words("no_curves"))
    yield from _head(words("speed"))
    if shown["speed"]:
        ratio = [(name, "", text) for name, text in shown["speed"]["ratio"]]
        yield from _table(["", *sides], [*shown["speed"]["rows"], *ratio])
    else:
        yield plain(words("no_speed"))
    if shown["counts"]:
        yield from ("", *_table([words("counts"), *sides], shown["counts"]))
    yield from _head(words("task"))
    if shown["qualities"]:
        yield from _table([words("metric"), *sides, words("difference")], shown["qualities"])
    else:
        yield plain(words("no_task"))


def _ground(shown: dict[str, Any], words: Words) -> Iterator[str]:
    sides = [words("source"), words("target")]
    yield from _head(words("environment"))
    if shown["environment"]:
        rows = [(name, ours, theirs, "≠" if differs else "") for name, ours, theirs, differs in shown["environment"]]
        yield from _table([words("setting"), *sides, ""], rows)
    else:
        yield plain(words("no_environment"))
    for key in ("limits", "notes"):
        if shown[key]:
            yield from _head(words("evidence" if key == "limits" else "notes"))
            yield from (f"- {plain(text)}" for text in shown[key])
    if shown["regression"]:
        yield from _head(words("regression"))
        rows = [row[:4] for row in shown["regression"]["rows"]]
        head = [words("what"), words("before"), words("after"), ""]
        yield from _table(head, rows) if rows else [plain(words("no_change"))]
    yield from _head(words("provenance"))
    yield from _table([words(key) for key in ("side", "file", "bytes", "hash")], shown["inputs"])
    yield from ([plain(shown["more_inputs"])] if shown["more_inputs"] else [])
    yield from ("", plain(shown["made"]))


def _head(title: str) -> Sequence[str]:
    return ("", f"## {title}", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(plain, head))} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in rows)

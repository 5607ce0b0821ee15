"""What the command shows besides its result: progress on a terminal, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from porting.errors import readable

Report = Callable[[int, int], None]


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Report | None]:
    """A progress bar over bytes on standard error, if that is a terminal; None otherwise.

    The bar appears only when the work takes more than an instant, so short runs leave no flicker.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


def show(what: Mapping[str, Any] | Iterable[str]) -> None:
    """A result on standard output: JSON of a mapping, or lines that nothing in a file's name can break."""
    lines = [json.dumps(what, indent=1)] if isinstance(what, Mapping) else map(readable, what)
    text = "\n".join(lines) + "\n"
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # a terminal of few characters shows the others by their numbers
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode())


def say(line: str) -> None:
    """Something beside the result, on standard error: a node that was lost."""
    sys.stderr.write(f"port: {readable(line)}\n")


def fail(text: str) -> None:
    """An error on standard error, in red on a terminal that has colours."""
    head, _, rest = text.partition("\n")
    colour = sys.stderr.isatty()
    mark = "\033[31merror:\033[0m" if colour else "error:"
    sys.stderr.write(f"port: {mark} {head}\n" + (f"{rest}\n" if rest else ""))


def size(count: float) -> str:
    """Bytes for people.

    >>> size(1_344_904_432)
    '1.34 GB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB" if count < 100 else f"{count:.0f} GB"


def number(count: float) -> str:
    """A count for people.

    >>> number(336_226_108)
    '336 M'
    """
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} G"


@contextmanager
def stages(title: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error with what is being done now, if that is a terminal; silence otherwise."""
    if quiet or not sys.stderr.isatty():
        yield unsaid
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:
        yield lambda text: status.update(f"{title}: {text}")


def unsaid(text: str) -> None:
    """What is being done now, told to nobody."""
    del text


Stepped = Callable[[int, int, str], None]
"""Takes how many steps are made, of how many, and what is to be said beside."""


@contextmanager
def steps(title: str, *, quiet: bool = False) -> Iterator[Stepped | None]:
    """A progress bar over steps on standard error, if that is a terminal; None otherwise."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, said="")

        def report(done: int, total: int, said: str) -> None:
            bar.update(task, completed=done, total=total, said=said)

        yield report

"""A folder that one run at a time writes into."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from porting.checkpoint.output import explain, make_folder
from porting.errors import UsageError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Keep other processes out of the folder of this file, which are both made; a lock dies with its process.

    busy: what another run does there. Raises: UsageError where one does; FormatError if the system refuses.
    """
    make_folder(path.parent)
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise explain(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path.parent}: another run {busy}") from None
        except OSError as error:
            raise explain(path, error) from None
        yield

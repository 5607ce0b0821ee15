"""Lines of several ranks in one file, told apart by what launchers put before them."""

from __future__ import annotations

import re

PREFIX = re.compile(rb"^\[(?:\d{1,6},|rank|default)(\d{1,6})\](?:<std(?:out|err)>)?:? ?", re.MULTILINE)
"""mpirun --tag-output: `[1,3]<stdout>:`; torchrun: `[rank3]:`, `[default3]:`."""


def by_rank(block: bytes) -> dict[int | None, bytes]:
    r"""The lines of each rank, without what says whose they are; None: of lines that say nothing.

    block: whole lines. Their order within a rank is kept.

    >>> by_rank(b"[1,0]<stdout>:a\n[1,1]<stdout>:b\nc\n")
    {0: b'a\n', 1: b'b\n', None: b'c\n'}
    """
    if b"[" not in block or PREFIX.search(block) is None:
        return {None: block}
    lines: dict[int | None, list[bytes]] = {}
    for text in block.splitlines(keepends=True):
        prefix = PREFIX.match(text)
        lines.setdefault(int(prefix[1]) if prefix else None, []).append(text[prefix.end() :] if prefix else text)
    return {rank: b"".join(texts) for rank, texts in lines.items()}

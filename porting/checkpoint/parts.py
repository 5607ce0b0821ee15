"""The files of an output that another process has begun, filled from here: only that process puts them in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from porting.checkpoint.output import explain, put, release
from porting.errors import FormatError


class Parts:
    """Some of an output's part files, by their numbers there. A context manager, which closes them."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        """Raises: FormatError for one that is not there, or may not be written to."""
        self._paths = paths
        self._fds: dict[int, int] = {}
        for file, path in paths.items():
            try:
                self._fds[file] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                self.close()
                raise FormatError(path, "", "is not seen here: all nodes want one file system for this") from None
            except OSError as error:
                self.close()
                raise explain(path, error) from None

    def write(self, file: int, offset: int, data: object) -> None:
        """Write all of `data` at `offset` of file number `file`. Raises: FormatError when the system refuses."""
        try:
            put(self._fds[file], offset, data)
        except OSError as error:
            raise explain(self._paths[file], error) from None

    def read(self, file: int, offset: int, into: memoryview) -> int:
        """As Output.read."""
        return os.preadv(self._fds[file], [into], offset)

    def release(self, file: int, offset: int, nbytes: int) -> None:
        """As Output.release."""
        release(self._fds[file], offset, nbytes)

    def close(self) -> None:
        """Close them."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

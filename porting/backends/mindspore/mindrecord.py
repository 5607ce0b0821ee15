"""MindRecord files, by MindSpore's own writer and reader.

MindSpore keeps a page file and a SQLite index `NAME.db` beside it, and the index knows the page file by its name. So
both are written under their final names in a folder of their own, and moved from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from porting.checkpoint.output import alive, explain
from porting.errors import FormatError, UsageError, first_line_of

Array = np.ndarray[Any, np.dtype[Any]]

BATCH = 512
"""Records that are handed to MindSpore at a time; it pads its pages by them."""


class MindRecordWriter:
    """A MindRecord file being written; nothing stands under the final name before `commit`."""

    def __init__(self, path: Path, columns: Mapping[str, str], *, overwrite: bool = False) -> None:
        """`columns`: the dtype of each feature by name (int32, int64 or float32), all of one axis.

        Raises: UsageError if the file is there and `overwrite` is false; FormatError if it cannot be written.
        """
        _require_mindspore(path)
        self.path, self._waiting = path, list[dict[str, Array]]()
        self._index = path.with_name(path.name + ".db")
        for taken in (path, self._index):
            if os.path.lexists(taken) and not overwrite:
                raise UsageError(f"{taken}: exists already; --overwrite replaces it")
        self._folder = path.with_name(f".{path.name}.{os.getpid()}.part")
        _remove_stale(path)
        try:
            self._folder.mkdir()
        except OSError as error:
            raise explain(path, error) from None
        from mindspore.mindrecord import FileWriter

        with _explained(path):
            self._writer = FileWriter(str(self._folder / path.name), shard_num=1, overwrite=True)
            self._writer.add_schema(
                {name: {"type": dtype, "shape": [-1]} for name, dtype in columns.items()}, "records"
            )
        self._columns = dict(columns)

    def write(self, records: Iterable[Mapping[str, Sequence[int] | Sequence[float] | Array]]) -> None:
        """Add records: the values of every column."""
        for record in records:
            self._waiting.append({name: np.asarray(record[name], dtype) for name, dtype in self._columns.items()})
            if len(self._waiting) == BATCH:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            with _explained(self.path):
                self._writer.write_raw_data(self._waiting)
            self._waiting = []

    def commit(self) -> Path:
        """Put the file and its index in place."""
        self._flush()
        with _explained(self.path):
            self._writer.commit()
        try:
            (self._folder / self._index.name).replace(self._index)
            (self._folder / self.path.name).replace(self.path)
        except OSError as error:
            raise explain(self.path, error) from None
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _explained:  # noqa: N801 - reads as a verb where it is used
    """Turns what MindSpore raises into one line that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError | OSError | ValueError | TypeError):
            raise FormatError(self.path, "", f"MindSpore: {first_line_of(error)}") from None


def _require_mindspore(path: Path) -> None:
    """Raises: UsageError if MindSpore is not installed."""
    if find_spec("mindspore") is None:
        raise UsageError(f"{path}: MindRecord is written and read by MindSpore, which is not installed here")


def _remove_stale(path: Path) -> None:
    """Remove what killed runs that were to write the same file have left."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        number = part.name.rsplit(".", 2)[1]
        if part.is_dir() and number.isdecimal() and not alive(int(number)):
            shutil.rmtree(part, ignore_errors=True)


def read_mindrecord(path: Path) -> Iterator[dict[str, Array]]:
    """The features of each record, in the order in which they were written.

    Raises: FormatError for a file that MindSpore refuses.
    """
    if not path.is_file():
        raise FormatError(path, "", "there is no such file")
    _require_mindspore(path)
    from mindspore.mindrecord import FileReader

    with _explained(path):
        reader = FileReader(str(path))
        try:
            for record in reader.get_next():
                yield {name: np.atleast_1d(value) for name, value in record.items()}
        finally:
            reader.close()

"""Opens a checkpoint and says what it is, without asking that it be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.convert.find import find
from porting.convert.match import Match
from porting.convert.registry import families
from porting.convert.source import open_source
from porting.errors import MismatchError, UsageError


@dataclass(frozen=True)
class Identified:
    """A checkpoint with the family and dialect of its names.

    match: None if none fits; `problems` says why. state: tensors of PyTorch optimizers, which no table names.
    constants: tensors of an ONNX graph that are no weights.
    """

    checkpoint: Checkpoint
    match: Match | None
    problems: tuple[str, ...] = ()
    state: Mapping[str, TensorEntry] = field(default_factory=dict)
    constants: tuple[str, ...] = ()

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Parameters, and slots that are named after them, by the names that tables know."""
        return self.checkpoint.entries

    def as_family(self, family: str, dialect: str | None = None) -> Match | None:
        """The same names read as another family; None if they do not fit it."""
        return _find(self.checkpoint, family, dialect)[0]


@dataclass(frozen=True)
class _Wish:
    """What `open_source` asks for."""

    source: Path
    source_format: str | None
    like: Path | None = None
    source_framework: str | None = None
    optimizer: Path | None = None


def identify(
    path: str | Path,
    *,
    family: str | None = None,
    dialect: str | None = None,
    format: str | None = None,  # noqa: A002 - the word that users know
    like: str | Path | None = None,
) -> Identified:
    """Open a checkpoint of any format and find its family and dialect.

    family, dialect: narrow the choice. like: names anonymous ONNX initializers by value.
    Raises: FormatError; UsageError for a family, dialect or format that does not exist.
    """
    source = open_source(_Wish(Path(path), format, Path(like) if like else None))
    _known(family, dialect)
    checkpoint = replace(source.checkpoint, entries=source.entries)
    match, problems = _find(checkpoint, family, dialect)
    state = {name: source.tensors[name] for name in source.state_tensors}
    return Identified(checkpoint, match, problems, state, source.constants)


def _known(family: str | None, dialect: str | None) -> None:
    known = families()
    if family is not None and family not in known:
        raise UsageError(f"family {family}: not known; there are {', '.join(known)}")
    there = {column.name for name, one in known.items() for column in one.dialects if family in (None, name)}
    if dialect is not None and dialect not in there:
        raise UsageError(
            f"dialect {dialect}: not known in {family or 'any family'}; there are {', '.join(sorted(there))}"
        )


def _find(checkpoint: Checkpoint, family: str | None, dialect: str | None) -> tuple[Match | None, tuple[str, ...]]:
    shapes = {name: entry.shape for name, entry in checkpoint.items()}
    try:
        return find(tuple(checkpoint), families(), family=family, dialect=dialect, sizes=shapes), ()
    except MismatchError as error:
        return None, (error.title,)
    except UsageError as error:
        return None, (str(error),)

"""A family's table: one row per parameter, one column per dialect.

A family is data. `Family` checks it when it is built: every cell parses, no name matches two rows,
every pair of cells of a row can be derived from each other, every tie points at a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from porting.convert.notation import Cell
from porting.errors import TableError

Framework = Literal["tensorflow", "pytorch", "mindspore", "onnx", "numpy"]


class Variant(NamedTuple):
    """One form of a cell. `when` is the config key and value that choose it; rank chooses when reading."""

    cell: Cell
    when: tuple[str, bool] | None = None


@dataclass(frozen=True)
class Row:
    """One parameter in every dialect that has it.

    cells: variants per dialect, the default one first.
    tie: a name template of the same dialect's row that this one is a copy of (a tied decoder). It is
        written only if a reference lists it or its values differ and the target has a cell for it.
    drop: why the tensor is not carried over to a dialect without a cell for it.
    optional: the group is whole without it.
    zeros: a dialect without a cell computes as if the tensor were zero. It is made of zeros for a dialect that has
        one, and left out only if it is zero.
    """

    cells: Mapping[str, tuple[Variant, ...]]
    tie: str | None = None
    drop: str | None = None
    optional: bool = False
    zeros: bool = False

    @cached_property
    def key(self) -> str:
        """Names the row in messages and in code: the first dialect's name template."""
        return str(next(iter(self.cells.values()))[0].cell.template)


def variants(key: str, *, true: str, false: str) -> tuple[Variant, ...]:
    """Two forms of a cell, chosen by a boolean of the config; the form for true is the default."""
    return Variant(Cell.parse(true), (key, True)), Variant(Cell.parse(false), (key, False))


def row(
    *,
    tie: str | None = None,
    drop: str | None = None,
    optional: bool = False,
    zeros: bool = False,
    **cells: str | tuple[Variant, ...],
) -> Row:
    """A row from cells in the notation, one keyword per dialect.

    Raises: TableError for a cell that does not parse.
    """
    parsed = {name: (Variant(Cell.parse(cell)),) if isinstance(cell, str) else cell for name, cell in cells.items()}
    if not parsed:
        raise TableError("a row without cells")
    return Row(parsed, tie, drop, optional, zeros)


@dataclass(frozen=True)
class Group:
    """Rows that are present together or not at all.

    at: the level of the scope whose prefix the names carry (`base` for the encoder, `head` …).
    required: a checkpoint without it is not of this family.
    shares: an earlier group whose names some dialects give to this one too (one head for classes and for scores).
        Such a name is read as the earlier group's, and written for this one only if the earlier is absent.
    """

    name: str
    rows: tuple[Row, ...]
    at: str = "base"
    required: bool = False
    shares: str | None = None

    @property
    def incidental(self) -> bool:
        """Is nothing of it needed by anyone, so that its absence is not worth a word?"""
        return all(line.optional for line in self.rows)

    def may_share(self, other: Group) -> bool:
        """May both have rows of one name? Only if the table says that one stands in for the other."""
        return self.name != other.name and (self.shares or self.name) == (other.shares or other.name)


def group(name: str, *rows: Row, at: str = "base", required: bool = False, shares: str | None = None) -> Group:
    """A group of rows."""
    return Group(name, rows, at, required, shares)


class Scope(NamedTuple):
    """Prefixes per level, as a released or saved model of the dialect has them.

    name: of the part that a model plays (`teacher`): a conversion goes to the scope of the same name, if there is one.
    """

    levels: Mapping[str, str]
    variables: Mapping[str, str] = {}
    name: str = ""

    def prefix(self, level: str) -> str:
        """The prefix of a level; levels that are not listed have none."""
        return self.levels.get(level, "")


def scope(base: str = "", *, name: str = "", variables: Mapping[str, str] | None = None, **levels: str) -> Scope:
    """A scope: prefix of the base level, then of others by keyword, and values of free name fields."""
    return Scope({"base": base, **levels}, dict(variables or {}), name)


class Scalar(NamedTuple):
    """A number that an optimizer keeps once, and how it is stored.

    ahead: of a power of beta, how many factors it has more than steps were taken.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    ahead: int = 0


class SlotForm(NamedTuple):
    """How one optimizer's state is named in a dialect.

    optimizer: its name in the field (`AdamWeightDecay`, `Adam`, `AdamW`).
    roles: role (`m`, `v`, `vmax`) to a pattern of the slot's name with `{name}` for the parameter's; in PyTorch, to the
        key within a parameter's state.
    scalars: role (`step`, `learning_rate`, `beta1_power`, `beta2_power`) to what holds it.
    bias_correction: whether the optimizer corrects the moments by 1 - beta^t; None if it may be either.
    epsilon_hat: whether epsilon is added to the root of the uncorrected second moment, the correction being in the
        rate (Kingma and Ba, end of section 2), rather than to the corrected one.
    defaults: hyper-parameters that the optimizer has unless told otherwise, by torch's names; no form stores them.
    """

    optimizer: str
    roles: Mapping[str, str]
    scalars: Mapping[str, Scalar] = {}
    bias_correction: bool | None = None
    epsilon_hat: bool = False
    defaults: Mapping[str, Any] = {}


class Dialect(NamedTuple):
    """One column: whose names these are, which framework reads them, under which scopes they occur.

    scopes: the first is written by default; the last resort when reading is any prefix at all.
    separator: between the parts of a name.
    format: name of the format that is written by default.
    stores_ties: its files hold tied tensors twice, and its loader wants both.
    modules: parts of names in the order in which the code registers them, where it is not that of the rows. PyTorch
        optimizers count parameters in that order.
    """

    name: str
    framework: Framework
    scopes: tuple[Scope, ...]
    separator: str = "."
    format: str = "safetensors"
    slots: tuple[SlotForm, ...] = ()
    stores_ties: bool = False
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Family:
    """All dialects of one model family.

    labels: label to the config keys that hold its size, first found wins (`hidden` to `hidden_size`, `d_model`).
    config_files: names under which a config lies beside a checkpoint.
    specialises: a family that wins when names alone fit both.
    evidence: sizes that decide between families whose names are the same (`{"token_types": 1}`).
    """

    name: str
    dialects: tuple[Dialect, ...]
    groups: tuple[Group, ...]
    labels: Mapping[str, tuple[str, ...]]
    config_files: tuple[str, ...] = ("config.json",)
    specialises: str | None = None
    evidence: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises: TableError with every problem of the table."""
        from porting.convert.check import problems_of

        problems = problems_of(self)
        if problems:
            raise TableError(f"family {self.name}: the table is wrong", *(f"  {p}" for p in problems))

    def dialect(self, name: str) -> Dialect:
        """Raises: KeyError."""
        return {dialect.name: dialect for dialect in self.dialects}[name]

    def dialect_for(self, framework: str) -> Dialect | None:
        """The first dialect of a framework: the one that `tf2ms` and its like mean."""
        return next((dialect for dialect in self.dialects if dialect.framework == framework), None)

    def rows(self) -> Iterator[tuple[Group, Row]]:
        """Every row with its group, in the order of the table."""
        for member in self.groups:
            for line in member.rows:
                yield member, line

    @cached_property
    def version(self) -> str:
        """A hash of the table's text: two ledgers with the same version were written by the same rules."""
        lines = [f"{self.name} {dict(self.labels)} {dict(self.evidence)}"]
        lines += [repr(dialect) for dialect in self.dialects]
        for member, line in self.rows():
            cells = {n: [(str(v.cell.templates), v.cell.axes, v.when) for v in vs] for n, vs in line.cells.items()}
            where = f"{member.name} {member.at} {member.required} {member.shares}"
            lines.append(f"{where} {cells} {line.tie} {line.drop} {line.optional} {line.zeros}")
        return sha256("\n".join(lines).encode()).hexdigest()[:16]

    def tied_row(self, line: Row, dialect: str) -> Row | None:
        """The row that a tie points at."""
        found = self._by_template.get(line.tie or "", ())
        return next((other for other in found if dialect in other.cells), None)

    @cached_property
    def _by_template(self) -> dict[str, list[Row]]:
        """Rows by each name template that they have in any dialect."""
        found: dict[str, list[Row]] = {}
        for _, line in self.rows():
            for name in {str(variant.cell.template) for forms in line.cells.values() for variant in forms}:
                found.setdefault(name, []).append(line)
        return found

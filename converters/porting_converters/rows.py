"""Rows that several families have, and columns taken from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porting.convert.notation import Cell
from porting.convert.table import Group, Row, Variant, group
from porting.errors import TableError


def columns(rows: Sequence[Row], /, **wanted: str | Mapping[str, str]) -> tuple[Row, ...]:
    """The same rows under other dialects.

    wanted: for each new dialect the one whose cells it takes, or cells of its own by any name that the row has.

    Raises: TableError for a name that no row has.

    >>> from porting.convert.table import row
    >>> old = [row(google="w : inner hidden", hf="weight : hidden inner")]
    >>> [sorted(line.cells) for line in columns(old, kit_tf="google", other={"weight": "v : inner hidden"})]
    [['kit_tf', 'other']]
    """
    known = {name for line in rows for name in _names(line)}
    for dialect, cells in wanted.items():
        strangers = [] if isinstance(cells, str) else sorted(set(cells) - known)
        if strangers:
            raise TableError(f"{dialect}: no row {', '.join(strangers)}")
    taken = (_cells(line, wanted) for line in rows)
    return tuple(
        Row(cells, line.tie, line.drop, line.optional, line.zeros)
        for line, cells in zip(rows, taken, strict=True)
        if cells
    )


def _names(line: Row) -> list[str]:
    return [str(forms[0].cell.template) for forms in line.cells.values()]


def _cells(line: Row, wanted: Mapping[str, str | Mapping[str, str]]) -> dict[str, tuple[Variant, ...]]:
    cells: dict[str, tuple[Variant, ...]] = {}
    for dialect, source in wanted.items():
        if isinstance(source, str):
            if source in line.cells:
                cells[dialect] = line.cells[source]
            continue
        own = next((source[name] for name in _names(line) if name in source), None)
        if own is not None:
            cells[dialect] = (Variant(Cell.parse(own)),)
    return cells


def training_state(*dialects: str) -> Group:
    """What MindSpore's training cells and callbacks store beside the weights.

    Names: nn.TrainOneStepWithLossScaleCell, nn.DynamicLossScaleUpdateCell, CheckpointConfig's append_info (2.10).
    """
    names = ("scale_sense", "current_iterator_step", "last_overflow_iterator_step", "epoch_num", "step_num")
    return group("training", *(_scalar(name, dialects) for name in names), at="net")


def _scalar(name: str, dialects: Sequence[str]) -> Row:
    either = Variant(Cell.parse(name)), Variant(Cell.parse(f"{name} : 1"))
    return Row(dict.fromkeys(dialects, either), drop="state of MindSpore's training loop, no weight", optional=True)

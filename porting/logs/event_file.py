"""TensorBoard's event files, read without TensorBoard: TFRecord frames around protobuf messages.

Event: wall_time = 1 (double), step = 2 (int64), summary = 5. Summary: value = 1 (repeated). Value: tag = 1,
simple_value = 2 (float), tensor = 8. TensorProto: dtype = 1, tensor_content = 4, float_val = 5, double_val = 6.
Reference: tensorflow, core/util/event.proto, core/framework/summary.proto and tensor.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from porting.checkpoint.wire import BYTES, FIXED32, FIXED64, Field, WireError, scan
from porting.data.tfrecord import read_records
from porting.errors import FormatError
from porting.logs import names
from porting.logs.assemble import Draft, drafts
from porting.logs.dialect import Part, Points

MARK = re.compile(rb".{12}\x09.{8}(?:\x10[^\x1a]{1,10})?\x1a\x0dbrain\.Event:", re.DOTALL)
FLOAT, DOUBLE = 1, 2
"""TensorFlow's numbers of float32 and float64."""

MOST = 1000
"""Tags of a file at most."""

CLOCK = "step times come from the clock of the events, logging and evaluation included"

EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number of one tag. time: seconds since 1970."""

    time: float
    step: int
    tag: str
    value: float


def is_event_file(head: bytes) -> bool:
    """Whether a file with that beginning is one."""
    return MARK.match(head) is not None


def scalars(payload: bytes) -> Iterator[Scalar]:
    """The numbers of one event. Raises: WireError for what is no event."""
    view = memoryview(payload)
    fields = list(scan(view))
    step = next((field.signed for field in fields if field.number == 2), 0)
    time = next((_double(view, field) for field in fields if field.number == 1 and field.wire == FIXED64), 0.0)
    for summary in (field for field in fields if field.number == 5 and field.wire == BYTES):
        for value in scan(view, summary.offset, summary.end):
            if value.number == 1 and value.wire == BYTES:
                for tag, number in _value(view, list(scan(view, value.offset, value.end))):
                    yield Scalar(time, step, tag, number)


def _double(view: memoryview, field: Field) -> float:
    return float(struct.unpack_from("<d", view, field.offset)[0])


def _value(view: memoryview, fields: list[Field]) -> Iterator[tuple[str, float]]:
    tag = next((field.text(view) for field in fields if field.number == 1), "")
    for field in fields:
        if field.number == 2 and field.wire == FIXED32:
            yield tag, struct.unpack_from("<f", view, field.offset)[0]
        elif field.number == 8 and field.wire == BYTES and (number := _tensor(view, field)) is not None:
            yield tag, number


def _tensor(view: memoryview, tensor: Field) -> float | None:
    """The number of a tensor that has one; None for any other."""
    dtype = 0
    for field in scan(view, tensor.offset, tensor.end):
        if field.number == 1:
            dtype = field.value
        letter = {FLOAT: "f", DOUBLE: "d"}.get(dtype)
        if letter is None or field.number not in (4, 5, 6):
            continue
        size = struct.calcsize(letter)
        if (field.wire == BYTES and field.value == size) or field.wire in (FIXED32, FIXED64):
            return float(struct.unpack_from(f"<{letter}", view, field.offset)[0])
    return None


def read_events(path: Path) -> tuple[Draft, ...]:
    """The runs of an event file. Raises: FormatError for one without numbers."""
    found: dict[str, list[Scalar]] = {}
    notes: list[str] = []
    try:
        for record in read_records(path):
            for scalar in scalars(record.payload):
                if scalar.tag in found or len(found) < MOST:
                    found.setdefault(scalar.tag, []).append(scalar)
    except (FormatError, WireError) as error:
        if not found:
            raise FormatError(path, "", f"is a damaged event file: {error}") from None
        notes.append("the file is torn: events up to there were read")
    series: dict[str, Points] = {}
    for tag, events in found.items():
        name, points = tag_name(tag), _points(events)
        if name not in series or series[name].values.size < points.values.size:
            series[name] = points
            series |= _seconds(points, events) if name == "loss" else {}
    finals = {known: name for name in series if name.startswith("eval") and (known := names.metric(name)) is not None}
    limits = (CLOCK,) if "seconds" in series else ()
    made = drafts({"events": Part(series, finals=finals, limits=limits, notes=tuple(notes))})
    if not made:
        raise FormatError(path, "", "is an event file without a number")
    return made


def _points(events: list[Scalar]) -> Points:
    values = np.array([event.value for event in events])
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    return Points(np.array([event.step for event in events], np.int64), values, EPSILON * largest)


def _seconds(points: Points, events: list[Scalar]) -> dict[str, Points]:
    """Step times, from the clock of the events of one tag."""
    passed, steps = np.diff([event.time for event in events]), np.diff(points.steps.astype(np.float64))
    good = (steps > 0) & (passed > 0)
    return {"seconds": Points(points.steps[1:][good], passed[good] / steps[good], 1e-6)} if good.any() else {}


def tag_name(tag: str) -> str:
    """The name of a series for a tag: `train/loss`, `Loss/train` and `loss_1` are the loss.

    >>> tag_name("train/loss"), tag_name("Loss/train"), tag_name("eval/acc")
    ('loss', 'loss', 'eval/acc')
    """
    plain = tag.lower()
    for side in ("train/", "training/"):
        plain = plain.removeprefix(side)
    for side in ("/train", "/training", "_1"):
        plain = plain.removesuffix(side)
    return names.SERIES.get(plain, tag)

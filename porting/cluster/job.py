"""What is run, and what became of it: JSON values both ways, files beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from porting.backends.message import decode_error, encode_error
from porting.backends.process import Outcome
from porting.errors import PortError, UsageError, first_line_of

TIMEOUT = 1800.0
"""Seconds that a job may be silent."""

KINDS = ("cpu", "gpu", "npu")
"""Resources by the names that Ray has in capitals; any other is a custom one by its own name."""

State = Literal["done", "refused", "crashed", "lost"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job in a process of its own.

    name: for messages. values: JSON; `verb` says what is done, as in porting.backends.worker. needs: resources of the
    node, {"gpu": 1}. timeout: seconds until a process that tells nothing is killed. inputs: paths that are among the
    values, and the files that each consists of, all in its folder, or in itself if it is one. outputs: paths among
    the values of what the job makes; none is there yet. Wherever the job runs, every value that is one of these paths
    is replaced by where that lies there. Outputs of a job that is not done are dropped. alone: no other job of this run
    is on the node meanwhile: it measures.
    """

    name: str
    values: Mapping[str, Any]
    needs: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1})
    timeout: float = TIMEOUT
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    alone: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """From what `to_json` gave."""
        inputs = {path: tuple(files) for path, files in values["inputs"].items()}
        return cls(**{**values, "inputs": inputs, "outputs": tuple(values["outputs"])})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.

    state: refused for what it asks wrongly, with the error; crashed if its process did; lost if the nodes that it ran
    on were. value: JSON values that its verb returned. reason: of all but done, one line. node: where it ran last.
    attempts: on how many nodes it was tried. told: what was said meanwhile, a line per node lost.
    """

    state: State
    value: Any = None
    reason: str = ""
    error: PortError | None = None
    tail: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    node: str = ""
    attempts: int = 1
    told: tuple[str, ...] = ()

    @classmethod
    def refused(cls, error: PortError) -> Result:
        """Of what is asked wrongly."""
        return cls("refused", reason=first_line_of(error), error=error)

    def outcome(self) -> Outcome:
        """The same as porting.backends.process tells it. Raises: the error of one that was refused."""
        if self.error is not None:
            raise self.error
        if self.state == "done":
            return Outcome("done", self.value, tail=self.tail, notes=self.notes, seconds=self.seconds)
        return Outcome("crashed", None, self.reason, self.tail, self.notes, self.seconds)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "error"}
        return values | ({"error": encode_error(self.error)} if self.error else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """From what `to_json` gave."""
        error = decode_error(values["error"]) if "error" in values else None
        lists = {name: tuple(values[name]) for name in ("tail", "notes", "told")}
        return cls(**{**values, **lists, "error": error})


def files_of(path: str | Path) -> tuple[str, ...]:
    """The files of an input: itself, or all that lie in a folder. Raises: UsageError if there are none."""
    place = Path(path).absolute()
    found = sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]
    if not found or not all(each.is_file() for each in found):
        raise UsageError(f"{path}: is not there, or holds nothing that a job could read")
    return tuple(map(str, found))


def placed(values: Any, places: Mapping[str, str]) -> Any:
    """JSON values with every text that is one of the paths replaced by its place.

    >>> placed({"a": ["/x", 1], "b": "/x/y"}, {"/x": "/n"})
    {'a': ['/n', 1], 'b': '/x/y'}
    """
    if isinstance(values, str):
        return places.get(values, values)
    if isinstance(values, Mapping):
        return {name: placed(value, places) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [placed(value, places) for value in values]
    return values

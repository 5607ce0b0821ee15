"""The log of a training run: lines as MindSpore's callbacks print them, and a line of JSON per step.

LossMonitor and TimeMonitor of mindspore.train print `epoch: 1 step: 1875, loss is 1.1544309`, and after each epoch
`epoch time: 2000.000 ms, per step time: 20.000 ms`: epochs and an epoch's steps count from 1.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from porting.backends.protocol import StepResult
from porting.errors import FormatError, UsageError
from porting.parity.layout import line
from porting.train.parallel import world
from porting.train.state import Position

LOG, STEPS = "train.log", "steps.jsonl"

BLOCK = 4096
"""Bytes that are read at a time from the end of a log."""


class TrainLog:
    """Both files of a run, in its folder; a context manager, whose `told` the loop is given.

    Where the loss is scaled a step's line shows loss, overflow and scale, as MindSpore's scripts for it do.
    A run that goes on appends, after the last whole line. Steps that it makes again after a kill stand in them again,
    with equal numbers.
    Of several ranks the first only has files.
    """

    def __init__(self, folder: Path, per_epoch: int, *, every: int = 1, scaled: bool = False) -> None:
        """every: steps between lines of the log; steps.jsonl has all. scaled: whether the loss is.

        Raises: UsageError, FormatError.
        """
        if every < 1:
            raise UsageError(f"log_every: wanted at least 1, got {every}")
        self._per_epoch, self._every, self._files = per_epoch, every, list[TextIO]()
        self._scaled = scaled
        self._step = self._epoch = time.perf_counter()
        self._made = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (LOG, STEPS) if world().leads else ():
                _end_whole(folder / name)
                self._files.append((folder / name).open("a", encoding="utf-8", buffering=1))
        except OSError as error:
            self.close()
            raise FormatError(folder, "", f"cannot be written: {os.strerror(error.errno or 0)}") from None

    def told(self, place: Position, step: int, result: StepResult) -> None:
        """Write down a step (porting.train.loop.Told)."""
        now = time.perf_counter()
        said = {"step": step, "loss": result.loss, "lr": result.lr, "grad_norm": result.grad_norm}
        said |= {"loss_scale": result.loss_scale, "overflow": result.overflow, "seconds": now - self._step}
        lines, self._step, self._made = "", now, self._made + 1
        last = place.batch + 1 == self._per_epoch
        if last or result.overflow or step % self._every == 0:
            lines = _line(place, result, scaled=self._scaled)
        if last:
            spent = (now - self._epoch) * 1000
            lines += f"epoch time: {spent:.3f} ms, per step time: {spent / self._made:.3f} ms\n"
            self._epoch, self._made = now, 0
        for file, text in zip(self._files, (lines, line(said)), strict=False):
            _write(file, text)

    def say(self, text: str) -> None:
        """Add a line to the log."""
        for file in self._files[:1]:
            _write(file, f"{text}\n")

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(place: Position, result: StepResult, *, scaled: bool) -> str:
    """A step as LossMonitor prints it; scaled, as the LossCallBack of ModelZoo's TinyBERT prints its three outputs."""
    if not scaled:
        return f"epoch: {place.epoch + 1} step: {place.batch + 1}, loss is {result.loss:.9g}\n"
    values = (
        ("Float32", f"{result.loss:.9g}"),
        ("Bool", str(result.overflow)),
        ("Float32", f"{result.loss_scale:.9g}"),
    )
    shown = ", ".join(f"Tensor(shape=[], dtype={dtype}, value= {value})" for dtype, value in values)
    return f"epoch: {place.epoch + 1}, step: {place.batch + 1}, outputs are ({shown})\n"


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
    except OSError as error:
        raise FormatError(file.name, "", f"cannot be written: {os.strerror(error.errno or 0)}") from None


def _end_whole(path: Path) -> None:
    """Cut off the line that a killed run was writing, so that the next one is not joined to it."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - BLOCK, 0)
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            file.truncate(end)

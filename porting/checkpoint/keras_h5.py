"""Stub."""
from pathlib import Path
from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.format import Format


def locate(path: Path) -> Path | None:
    return None


def read(path: Path) -> Checkpoint:
    raise NotImplementedError


FORMAT = Format("keras-h5", "tensorflow", ".h5", locate, read)

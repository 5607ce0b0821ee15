"""Stub."""
from pathlib import Path
from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.format import Format


def locate(path: Path) -> Path | None:
    return None


def read(path: Path) -> Checkpoint:
    raise NotImplementedError


FORMAT = Format("mindspore-ckpt", "mindspore", ".ckpt", locate, read)

"""Memory of whole `port convert` processes on a checkpoint of 2.2 GB, two of whose tensors have 1 GiB each.

Both are dense kernels, so that they are transposed between TensorFlow and everything else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.registry import family_named
from porting.convert.sample import sample_shapes

pytestmark = pytest.mark.slow

SIZES = {"layer": 1, "hidden": 1024, "inner": 1 << 18, "vocab": 30522, "positions": 512, "token_types": 2}
ANONYMOUS, RESIDENT = 100 << 10, 200 << 10
"""KiB at most, whatever the size."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow checkpoint `m.ckpt`; the rows of its large kernels are equal, so that nobody holds them."""
    place = tmp_path_factory.mktemp("memory")
    shapes = sample_shapes(family_named("bert"), "google", SIZES, groups=("backbone", "pooler"))
    row = np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)
    tensors = {name: np.broadcast_to(row[: shape[-1]], shape) for name, shape in shapes.items()}
    write(place / "m.ckpt", tensors, format="tf-bundle")
    assert max(entry.nbytes for entry in read(place / "m.ckpt").values()) == 1 << 30
    return place


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def peaks(*words: object) -> tuple[int, int]:
    """KiB of anonymous and of all resident memory, sampled, of a command and its fork; what both have counts twice."""
    process = subprocess.Popen([sys.executable, "-m", "porting.cli", *map(str, words)], stderr=subprocess.PIPE)
    anonymous = resident = 0
    while process.poll() is None:
        found = [_status(pid) for pid in (process.pid, *_children(process.pid))]
        anonymous = max(anonymous, sum(int(lines.get("RssAnon", "0").split()[0]) for lines in found))
        resident = max(resident, sum(int(lines.get("VmRSS", "0").split()[0]) for lines in found))
        time.sleep(0.003)
    assert process.stderr is not None
    assert process.wait() == 0, process.stderr.read().decode()
    process.stderr.close()
    return anonymous, resident


@pytest.mark.parametrize(
    ("direction", "source", "words"),
    [
        ("tf2ms", "m.ckpt", ("--format", "mindspore-ckpt")),
        ("tf2ms", "m.ckpt", ("--format", "mindspore-ckpt", "--no-verify")),
        ("tf2ms", "m.ckpt", ("--format", "mindspore-safetensors", "--hash", "sha256")),
        ("tf2pt", "m.ckpt", ("--format", "torch")),
        ("pt2tf", "m.bin", ()),
        ("pt2ms", "m.bin", ("--dtype", "float16")),
    ],
)
def test_memory_is_bounded(direction: str, source: str, words: tuple[str, ...], folder: Path) -> None:
    path, out = folder / source, folder / "out"
    if not path.exists() and source == "m.bin":
        peaks("convert", "tf2pt", folder / "m.ckpt", "-o", path, "--format", "torch", "-q")
    anonymous, resident = peaks("convert", direction, path, "-o", out, "-q", "--overwrite", *words)
    for file in folder.glob("out*"):
        file.unlink()
    assert anonymous <= ANONYMOUS, f"{anonymous >> 10} MiB anonymous"
    assert resident <= RESIDENT, f"{resident >> 10} MiB resident"


def test_memory_of_looking(folder: Path) -> None:
    """Inspecting with statistics, and comparing across formats."""
    if not (folder / "m.bin").exists():
        peaks("convert", "tf2pt", folder / "m.ckpt", "-o", folder / "m.bin", "--format", "torch", "-q")
    for words in (("inspect", folder / "m.ckpt", "--stats"), ("diff", folder / "m.ckpt", folder / "m.bin")):
        anonymous, resident = peaks(*words)
        assert anonymous <= ANONYMOUS, f"{words[0]}: {anonymous >> 10} MiB anonymous"
        assert resident <= RESIDENT, f"{words[0]}: {resident >> 10} MiB resident"

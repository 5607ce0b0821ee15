"""Conversion speed and memory, whole processes, start-up included, paired in one run with `cp` of the same bytes.

    python benchmarks/convert.py [--folder DIR] [--rounds N] [--json FILE] [--only PART,…]

Parts: start, large, six, pairs, hashed, verified, peers.

Every round runs `cp` and the command one after the other, so a machine that drifts drifts under both;
the figure is the median of the rounds' ratios. `cp` waits for memory and a conversion also for the processor, so a
machine whose processor is slow at the moment drifts under one of them more: `start` tells how fast it is. Files are in
the page cache, modules are compiled. Memory is sampled from /proc every few milliseconds: anonymous (RssAnon) and
resident (VmRSS), of a process and its fork together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from paired import Line, head, line, show, timed

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.registry import family_named
from porting.convert.sample import sample_shapes

PORT = [str(Path(sys.executable).with_name("port"))]
GROUPS = ("backbone", "pooler", "mlm", "nsp")
BARE = ["--no-verify", "--hash", "none"]
LARGE = {"layer": 24, "hidden": 1024, "inner": 4096, "vocab": 30522, "positions": 512, "token_types": 2}
SIX = {"layer": 30, "hidden": 2048, "inner": 8192, "vocab": 30522, "positions": 512, "token_types": 2}


def make(path: Path, sizes: dict[str, int]) -> Path:
    """A BERT checkpoint in Google's format with these sizes; values repeat a block of normal ones."""
    if not Path(f"{path}.index").exists():
        shapes = sample_shapes(family_named("bert"), "google", sizes, groups=GROUPS)
        block = np.random.default_rng(0).standard_normal(1 << 22).astype(np.float32)
        tensors = {name: np.resize(block, shape) for name, shape in shapes.items()}
        write(path, tensors, format="tf-bundle")
    return path


def files_of(path: Path) -> list[Path]:
    """The files of a checkpoint."""
    return list(read(path).files)


def paired(name: str, source: list[Path], out: Path, command: list[str], rounds: int, limit: float | None) -> Line:
    """Run `cp` of the source's files and the command in turn; the first round warms up and is not counted."""
    found = []
    for i in range(rounds + 1):
        _clear(out)
        copy = timed(["cp", *map(str, source), str(out)])
        _clear(out)
        ours = timed(command)
        if i:
            found.append((ours, copy))
    _clear(out)
    return line(name, limit, found)


def _clear(out: Path) -> None:
    """An empty folder and an idle disk: nothing that was written before is still on its way there."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()


def large(folder: Path, rounds: int) -> Iterator[Line]:
    """BERT-large from TensorFlow to MindSpore."""
    yield from _to_mindspore(folder, "BERT-large", make(folder / "large.ckpt", LARGE), rounds, (2.0, 3.0))


def six(folder: Path, rounds: int) -> Iterator[Line]:
    """A checkpoint of 6 GB made for the purpose."""
    yield from _to_mindspore(folder, "6 GB", make(folder / "six.ckpt", SIX), rounds, (1.5, 2.2))


def _to_mindspore(folder: Path, name: str, path: Path, rounds: int, limits: tuple[float, float]) -> Iterator[Line]:
    out, files = folder / "out", files_of(path)
    base = [*PORT, "convert", "tf2ms", str(path), "-q", "-o", str(out / "o.ckpt")]
    yield paired(f"{name} tf2ms, not verified", files, out, [*base, *BARE], rounds, limits[0])
    yield paired(f"{name} tf2ms, not verified, hashed", files, out, [*base, "--no-verify"], rounds, limits[0])
    yield paired(f"{name} tf2ms, verified, hashed", files, out, base, rounds, limits[1])


FORMATS = {
    "tf-bundle": ("google", "p.ckpt"),
    "mindspore-ckpt": ("modelzoo", "p.ckpt"),
    "mindspore-safetensors": ("modelzoo", "p.safetensors"),
    "safetensors": ("hf", "p.safetensors"),
    "torch": ("hf", "p.bin"),
    "npz": ("google", "p.npz"),
}


def pairs(folder: Path, rounds: int) -> Iterator[Line]:
    """BERT-large between every two formats, in the dialect that belongs to each: not verified, no hashes."""
    yield from _pairs(folder, rounds, BARE)


def hashed(folder: Path, rounds: int) -> Iterator[Line]:
    """The same with hashes of both sides in the ledger."""
    yield from _pairs(folder, rounds, ["--no-verify"])


def verified(folder: Path, rounds: int) -> Iterator[Line]:
    """The same with hashes, verified. What needs no transpose has no aim of its own here."""
    yield from _pairs(folder, rounds, [], aims=(3.0, None))


def _pairs(
    folder: Path, rounds: int, options: list[str], aims: tuple[float, float | None] = (2.0, 1.6)
) -> Iterator[Line]:
    """aims: where something is transposed, and where nothing is; half a `cp` more for the CRC-32 of a zip file."""
    start = make(folder / "large.ckpt", LARGE)
    sources: dict[str, Path] = {}
    for name, (dialect, file) in FORMATS.items():
        place = folder / name
        sources[name] = place / file
        if not place.exists():
            place.mkdir()
            to = ["any", str(start), "--to", dialect, "--format", name, "-o", str(sources[name]), "-q"]
            subprocess.run([*PORT, "convert", *to], check=True)
    out = folder / "out"
    for a, (source_dialect, _) in FORMATS.items():
        for b, (dialect, file) in FORMATS.items():
            transposes = (source_dialect == "google") != (dialect == "google")
            aim = aims[0] if transposes else aims[1]
            limit = aim and aim + (0.5 if b in ("torch", "npz") else 0.0)
            if a != b:
                to = ["any", str(sources[a]), "--to", dialect, "--format", b, "-o", str(out / file), "-q", *options]
                yield paired(f"{a} -> {b}", files_of(sources[a]), out, [*PORT, "convert", *to], rounds, limit)


PEERS: dict[str, tuple[float, str]] = {
    "tf.train.load_checkpoint + mindspore.save_checkpoint": (
        10.0,
        """
import sys, tensorflow as tf, mindspore as ms
reader = tf.train.load_checkpoint(sys.argv[1])
params = []
for name in reader.get_variable_to_shape_map():
    value = reader.get_tensor(name)
    if name.endswith("kernel"):
        value = value.transpose()
    params.append({"name": name.replace("/", "."), "data": ms.Tensor(value)})
ms.save_checkpoint(params, sys.argv[2] + "/peer.ckpt")
""",
    ),
    "torch.load(mmap) + safetensors save_file": (
        4.0,
        """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], mmap=True, weights_only=True)
save_file({name: value.clone() for name, value in state.items()}, sys.argv[2] + "/peer.safetensors")
""",
    ),
}


def peers(folder: Path, rounds: int) -> Iterator[Line]:
    """How many times slower the frameworks' own way is, paired; `ratio` is peer / port."""
    start, out = make(folder / "large.ckpt", LARGE), folder / "out"
    torch_file = folder / "torch" / "p.bin"
    if not torch_file.exists():
        torch_file.parent.mkdir(exist_ok=True)
        to = ["tf2pt", str(start), "--format", "torch", "-o", str(torch_file), "-q"]
        subprocess.run([*PORT, "convert", *to], check=True)
    ours = {
        "tf.train.load_checkpoint + mindspore.save_checkpoint": (
            start,
            ["tf2ms", str(start), "-o", str(out / "o.ckpt")],
        ),
        "torch.load(mmap) + safetensors save_file": (
            torch_file,
            ["any", str(torch_file), "--to", "hf", "--format", "safetensors", "-o", str(out / "o.safetensors")],
        ),
    }
    for name, (limit, code) in PEERS.items():
        source, command = ours[name]
        rows = []
        for _ in range(rounds):
            _clear(out)
            ms = timed([*PORT, "convert", *command, "-q", "--no-verify"])
            _clear(out)
            rows.append((timed([sys.executable, "-W", "ignore", "-c", code, str(source), str(out)]), ms))
        yield line(f"{name} / port", limit, rows)


def start(folder: Path, rounds: int) -> Iterator[Line]:
    """`port --help`, and Typer alone, in seconds: how fast the machine is at the moment."""
    del folder
    yield _seconds("port --help (seconds)", 0.25, [*PORT, "--help"], rounds)
    yield _seconds("import typer (seconds)", None, [sys.executable, "-c", "import typer"], rounds)


def _seconds(name: str, limit: float | None, command: list[str], rounds: int) -> Line:
    runs = [timed(command) for _ in range(2 * rounds + 1)][1:]
    took = [run[0] for run in runs]
    middle = statistics.median(took)
    memory = max(run[1] for run in runs), max(run[2] for run in runs)
    return Line(name, limit, middle, min(took), max(took), middle, 0.0, *memory)


PARTS: dict[str, Callable[[Path, int], Iterator[Line]]] = {
    "start": start, "large": large, "six": six, "pairs": pairs, "hashed": hashed, "verified": verified, "peers": peers,
}  # fmt: skip


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "port-benchmark")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="start,large,peers")
    parser.add_argument("--json", type=Path)
    wishes = parser.parse_args()
    wishes.folder.mkdir(parents=True, exist_ok=True)
    print(head("cp"), flush=True)
    lines = []
    for part in wishes.only.split(","):
        for made in PARTS[part](wishes.folder, wishes.rounds):
            print(show(made), flush=True)
            lines.append(made)
    if wishes.json:
        wishes.json.write_text(json.dumps([asdict(one) for one in lines], indent=1) + "\n")


if __name__ == "__main__":
    main()

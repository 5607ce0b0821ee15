"""Speed and memory of comparing two captures, whole processes, start-up included.

    python benchmarks/compare.py [--folder DIR] [--rounds N] [--gigabytes G] [--peer] [--json FILE]

Two captures of whole float32 tensors that differ in every element by rounding noise. Each round runs, one after the
other: a bare numpy process that maps the files of both and sums them, `port compare --core`, and `port compare`. With
--peer also msprobe (`mindstudio-probe` from PyPI, in a virtual environment of its own that borrows this one's
torch) on the same tensors in its own dump format. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from paired import Line, head, line, show, timed

from porting.parity.capture import Manifest
from porting.parity.layout import MANIFEST
from porting.parity.reader import read_capture
from porting.parity.writer import CaptureWriter

PORT = str(Path(sys.executable).with_name("port"))
TAP = (16, 1024, 768)
"""Shape of a tap: batch, sequence, hidden; 50 MB."""

BARE = """
import sys, numpy
for name in sys.argv[1:]:
    numpy.memmap(name, numpy.float32, "r").sum()
"""


def make(folder: Path, gigabytes: float) -> tuple[Path, Path]:
    """Two captures with taps of together that size each; values repeat a block of normal ones."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal(TAP).astype(np.float32)
    sides = folder / f"source-{gigabytes:g}", folder / f"target-{gigabytes:g}"
    for side, noise in zip(sides, (0.0, 1e-6), strict=True):
        if (side / MANIFEST).is_file():
            continue
        made = Manifest("bench", {}, {"compute": "float32"}, "torch:cpu", "pytorch", "cpu", weights="w", batch="b")
        with CaptureWriter(side, made, whole=True) as writer:
            for tap in range(round(gigabytes * 1e9 / block.nbytes)):
                values = block * np.float32(1 + tap / 7)
                values *= 1 + np.float32(noise) * np.roll(block, tap + 1)
                writer.add("forward", f"layer.{tap}.output", values)
            writer.finish()
    return sides


def against_bare(sides: tuple[Path, Path], rounds: int) -> Iterator[Line]:
    """`port compare` over a bare read and sum of both files."""
    files = [str(file) for side in sides for file in sorted(side.glob("*.safetensors"))]
    bare = [sys.executable, "-c", BARE, *files]
    for name, extra, limit in (("core measures", ["--core"], 6.0), ("all measures", [], 20.0)):
        command = [PORT, "compare", *map(str, sides), "--json", *extra]
        found = [(timed(command, codes=(1,)), timed(bare)) for _ in range(rounds + 1)][1:]
        yield line(f"port compare, {name}", limit, found)


def sketching(rounds: int) -> Line:
    """A sketch of a tensor over its numpy sum, in one process; seconds are those of 1 GB."""
    script = """
import sys, time, numpy
from porting.parity.sketch import BUCKETS, TILE, add
data = numpy.ones(TILE * 1000, numpy.float32)
data.sum(); start = time.perf_counter(); data.sum(); middle = time.perf_counter()
sketch = numpy.zeros(BUCKETS)
for at in range(0, data.size, 4 * TILE):
    add(sketch, data[at : at + 4 * TILE], at)
gigabytes = data.nbytes / 1e9
print((time.perf_counter() - middle) / gigabytes, (middle - start) / gigabytes)
"""
    found = []
    for _ in range(rounds):
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        ours, bare = map(float, ran.stdout.split())
        found.append(((ours, 0.0, 0.0), (bare, 0.0, 0.0)))
    return line("sketch of 1 GB / numpy sum (seconds)", None, found)


def peer_python(folder: Path) -> Path | None:
    """The interpreter of a virtual environment with msprobe; None if it cannot be installed."""
    place = folder / "msprobe"
    python = place / "bin" / "python"
    if not (place / "bin" / "msprobe").exists():
        venv.create(place, with_pip=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        command = [str(python), "-m", "pip", "install", "-q", "mindstudio-probe"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"msprobe: skipped, it cannot be installed: {ran.stderr.strip().splitlines()[-1]}", flush=True)
            return None
    return python


def dump(side: Path) -> Path:
    """The tensors of a capture as msprobe's own dump of a step: dump.json beside a folder of .pt files."""
    import torch

    place = side.with_name(f"{side.name}.msprobe") / "step0" / "rank"
    data = place / "dump_tensor_data"
    if (place / "dump.json").exists():
        return place
    data.mkdir(parents=True, exist_ok=True)
    capture, entries = read_capture(side), {}
    for i, (section, name) in enumerate(capture.summaries):
        array = capture.tensor(section, name)
        assert array is not None  # noqa: S101 - the captures are whole
        tensor = torch.from_numpy(np.array(array))
        call = f"Functional.linear.{i}.forward"
        torch.save(tensor, data / f"{call}.output.0.pt")
        facts = {"Max": tensor.max(), "Min": tensor.min(), "Mean": tensor.mean(), "Norm": tensor.norm()}
        entries[call] = {
            "input_args": [],
            "input_kwargs": {},
            "output": [
                {
                    "type": "torch.Tensor",
                    "dtype": "torch.float32",
                    "shape": list(tensor.shape),
                    "requires_grad": False,
                    "data_name": f"{call}.output.0.pt",
                    **{key: float(value) for key, value in facts.items()},
                }
            ],
        }
    values = {"task": "tensor", "level": "L1", "framework": "pytorch", "dump_data_dir": str(data), "data": entries}
    for name, content in (("stack.json", {}), ("construct.json", {}), ("dump.json", values)):
        (place / name).write_text(json.dumps(content))
    return place


def against_peer(folder: Path, sides: tuple[Path, Path], rounds: int) -> Iterator[Line]:
    """How many times longer msprobe takes than `port compare`.

    msprobe's measures (cosine, L2, largest and relative error) are about our core ones; all have quantiles and ULP too.
    """
    python = peer_python(folder)
    if python is None:
        return
    dumps, out = [dump(side) for side in sides], folder / "msprobe-out"
    out.mkdir(exist_ok=True)
    target, golden = (str(place / "dump.json") for place in reversed(dumps))
    peer = [str(python.with_name("msprobe")), "compare", "-tp", target, "-gp", golden, "-o", str(out)]
    ours = [PORT, "compare", *map(str, sides), "--json"]
    found = [(timed(peer), timed(ours, codes=(1,)), timed([*ours, "--core"], codes=(1,))) for _ in range(rounds)]
    for name, column in (("all measures", 1), ("core measures", 2)):
        yield line(f"msprobe compare / port compare, {name}", 15.0, [(one[0], one[column]) for one in found])


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "port-benchmark-compare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--json", type=Path)
    wishes = parser.parse_args()
    wishes.folder.mkdir(parents=True, exist_ok=True)
    sides = make(wishes.folder, wishes.gigabytes)
    print(head("the other"), flush=True)
    lines = []
    for made in against_bare(sides, wishes.rounds):
        print(show(made), flush=True)
        lines.append(made)
    lines.append(sketching(wishes.rounds))
    print(show(lines[-1]), flush=True)
    if wishes.peer:
        for made in against_peer(wishes.folder, sides, min(wishes.rounds, 3)):
            print(show(made), flush=True)
            lines.append(made)
    if wishes.json:
        wishes.json.write_text(json.dumps([asdict(one) for one in lines], indent=1) + "\n")


if __name__ == "__main__":
    main()

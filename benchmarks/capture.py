"""What recording costs a training step, in one process, paired.

    python benchmarks/capture.py [--size bert-base] [--batch 8] [--seq 128] [--rounds N] [--json FILE]

PyTorch's port on the CPU, drawn weights. Each round runs, in this order and in the next round in the opposite one: a
bare step (forward, backward, update); a step whose loss and norms are written, as each step of a trajectory is; a
step, and before it a forward pass whose taps are all summarised (hash, norms, sketch) and written. Beside them, for
what it is made of, a forward pass, with and without its taps. Figures are medians of the rounds' ratios to the bare
step.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from paired import in_turn, seconds

from porting.backends.torch.run import open_session
from porting.parity.capture import Manifest
from porting.parity.naming import naming_of
from porting.parity.prepare import batch_of, weights_of
from porting.parity.probe import probe_recipe
from porting.parity.record import Net, record, taps_of
from porting.parity.state import Level
from porting.parity.subject import Subject, subject
from porting.parity.writer import CaptureWriter

LIMITS = {"step, loss and norms": 1.02, "step, summaries of all taps": 1.3}
"""Of the bare step."""


def opened(one: Subject) -> Net:
    """The subject's net, ready to train."""
    spec, config, build = one.spec, one.configured(), one.build()
    session = open_session(spec, config, build, probe_recipe(spec))
    naming = naming_of(spec, config, build, "pytorch", session.parameters)
    weights, _ = weights_of(one, build, naming.shapes)
    session.load(dict(naming.to_native(weights)))
    return Net(spec, config, build, session, naming, batch_of(one, build))


def actions(net: Net, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    taps = taps_of(net)
    made = Manifest(net.spec.name, {}, {}, "torch:cpu", "torch", "cpu", taps=taps)

    def written(steps: int, *levels: Level) -> None:
        with CaptureWriter(folder / "capture", made, whole=False, overwrite=True) as writer:
            record(net, writer, levels=levels, taps=taps, steps=steps)

    return {
        "bare step": lambda: net.session.step(net.batch),
        "step, loss and norms": lambda: written(1),
        "step, summaries of all taps": lambda: written(1, Level.FORWARD),
        "forward": lambda: net.session.forward(net.batch),
        "forward, all taps": lambda: net.session.forward(net.batch, taps),
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="bert-base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    net = opened(subject(options.size, task="classification", examples=options.batch, length=options.seq))
    with tempfile.TemporaryDirectory() as folder:
        timed = {name: partial(seconds, action) for name, action in actions(net, Path(folder)).items()}
        rounds = in_turn(timed, options.rounds + 1)[1:]  # the first one allocates
    print(f"{options.size}, batch {options.batch}, {options.seq} tokens; torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}; {options.rounds} rounds\n")
    print("| | of the bare step | rounds | limit | seconds |\n|---|---|---|---|---|")
    for name in timed:
        ratios = [one[name] / one["bare step"] for one in rounds]
        limit = f"{LIMITS[name]:g}" if name in LIMITS else ""
        median = statistics.median(one[name] for one in rounds)
        print(f"| {name} | {statistics.median(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f} ", end="")
        print(f"| {limit} | {median:.3f} |")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1))


if __name__ == "__main__":
    main()

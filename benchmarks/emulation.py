"""What emulating an NPU costs: forward and backward of a BERT of 2 layers, with and without, in turns.

python benchmarks/emulation.py [HIDDEN …]: prints the median time, and the median of the rounds' ratios to plain.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median

import numpy as np

from porting.backends.names import OPTIONS
from porting.backends.protocol import Build
from porting.backends.torch.emulate import Emulation
from porting.backends.torch.run import TorchSession, open_session
from porting_bert.config import BertConfig
from porting_bert.spec import SPEC

ROUNDS = 21
BATCH, SEQ, VOCAB, HEAD = 8, 64, 1000, 64

Modes = dict[str, Callable[[], AbstractContextManager[None]]]


def opened(hidden: int) -> tuple[TorchSession, dict[str, np.ndarray]]:
    """A session and a batch for it."""
    config = BertConfig(VOCAB, hidden, 2, hidden // HEAD, 4 * hidden, max_position_embeddings=SEQ)
    random = np.random.default_rng(0)
    batch = {
        "input_ids": random.integers(0, VOCAB, (BATCH, SEQ)),
        "input_mask": np.ones((BATCH, SEQ), np.int32),
        "label_ids": random.integers(0, 2, BATCH),
    }
    return open_session(SPEC, config, Build("classification")), batch


def measured(hidden: int, modes: Modes) -> dict[str, list[float]]:
    """Seconds of each round, by mode. The first round, in which memory is fetched, does not count."""
    session, batch = opened(hidden)
    times: dict[str, list[float]] = {name: [] for name in modes}
    for _ in range(ROUNDS + 1):
        for name, active in modes.items():
            with active():
                start = time.perf_counter()
                session.gradients(batch)
                times[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def main() -> None:
    """Print a line per mode."""
    emulations = [Emulation(cube, overflow) for cube in OPTIONS["cube"] for overflow in OPTIONS["overflow"]]
    modes: Modes = {"plain": nullcontext} | {str(each): each.active for each in emulations}
    for hidden in map(int, sys.argv[1:] or ("128", "768")):
        times = measured(hidden, modes)
        for name, seconds in times.items():
            ratio = median(mine / plain for mine, plain in zip(seconds, times["plain"], strict=True))
            print(f"hidden {hidden:4}  {name:18} {median(seconds) * 1000:7.1f} ms   x {ratio:.2f}")


if __name__ == "__main__":
    main()

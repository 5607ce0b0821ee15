"""Step time of the PyTorch port against transformers' XLNet, alternating in one run on the CPU.

    python benchmarks/models_xlnet.py [--size SIZE] [--batch N] [--seq N] [--rounds N]

Both compute one classification loss and its gradients with the same weights, eager attention (transformers has no
other for XLNet) and the same kernels underneath. A round times both; the order changes from round to round, and
the ratio is the median of the rounds' ratios, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import transformers
from paired import against

from porting.backends.protocol import Build
from porting.model.dropout import Dropout
from porting_xlnet import torch as port
from porting_xlnet.config import SIZES, XLNetConfig


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="xlnet-base")
    parser.add_argument("--layers", type=int, default=4, help="of the size's: steps are alike, layer by layer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args()
    config = replace(SIZES[flags.size], n_layer=flags.layers)
    print(f"{flags.size}, {flags.layers} layers, batch {flags.batch}, seq {flags.seq}; ", end="")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    for dropout in (0.0, 0.1):
        compare(replace(config, dropout=dropout, dropatt=dropout), flags.batch, flags.seq, flags.rounds)


def compare(config: XLNetConfig, batch: int, seq: int, rounds: int) -> None:
    """One line: seconds of both, and the ratio with its spread."""
    ours, theirs = steps(config, batch, seq)
    print(against(f"dropout {config.dropout}", ours, theirs, rounds))


def steps(config: XLNetConfig, batch: int, seq: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step (loss and gradients) of the port and of transformers, with equal weights and batch."""
    theirs = transformers.XLNetForSequenceClassification(
        transformers.XLNetConfig(
            vocab_size=config.n_token,
            d_model=config.d_model,
            n_layer=config.n_layer,
            n_head=config.n_head,
            d_inner=config.d_inner,
            ff_activation="gelu_new",
            dropout=config.dropout,
            summary_last_dropout=config.dropout,
            num_labels=2,
        )
    ).train()
    build = Build("classification", dropout=Dropout("own" if config.dropout else "off"))
    ours = port.build(config, build).train()
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        parameter.data.copy_(named[name].data)
    random = np.random.default_rng(0)
    ids = torch.from_numpy(random.integers(0, config.n_token, (batch, seq)))
    segments = torch.from_numpy(random.integers(0, 2, (batch, seq)))
    padding = torch.zeros(batch, seq)
    padding[:, : seq // 8] = 1
    labels = torch.from_numpy(random.integers(0, 2, batch))

    def our_step() -> None:
        features = {"input_ids": ids, "segment_ids": segments, "input_mask": padding, "label_ids": labels}
        ours(features)["loss"].backward()
        ours.zero_grad()

    def their_step() -> None:
        theirs(input_ids=ids, token_type_ids=segments, input_mask=padding, labels=labels).loss.backward()
        theirs.zero_grad()

    return our_step, their_step


if __name__ == "__main__":
    main()

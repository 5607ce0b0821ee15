"""`port demo`: the main job on a checkpoint that it makes itself, proved bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from porting.checkpoint.equal import equal_bits
from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.convert.ledger import Ledger
from porting.convert.registry import family_named
from porting.convert.sample import sample
from porting.convert.sizes import config_sizes
from porting.errors import UsageError

CONFIG = {
    "vocab_size": 3052,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "hidden_act": "gelu",
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
}
GROUPS = ("backbone", "pooler", "mlm", "nsp")


@dataclass(frozen=True, slots=True)
class Step:
    """One conversion of the demo. what: in words. ledger: of the conversion."""

    what: str
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo did. compared: tensors that came back; differing: names of those whose bits changed."""

    folder: Path
    steps: tuple[Step, ...]
    compared: int
    differing: tuple[str, ...]

    @property
    def proved(self) -> bool:
        """Did every tensor come back from both round trips with its bits?"""
        return self.compared > 0 and not self.differing


def demo(folder: str | Path) -> Demo:
    """Make a small BERT checkpoint in Google's format, convert it to MindSpore and PyTorch and back, and compare.

    folder: is made, and must be empty if it is there.
    Raises: UsageError for a folder that holds something.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise UsageError(f"{place}: wanted an empty folder, got one that holds {next(place.iterdir()).name}")
    source = place / "bert_model.ckpt"
    _make(source)
    steps = tuple(_round_trips(place, source))
    names = []
    before = read(source)
    for back in (place / "back_from_mindspore.ckpt", place / "back_from_pytorch.ckpt"):
        after = read(back)
        if set(after) != set(before):
            names += sorted(set(after) ^ set(before))
        names += [name for name in before if name in after and not equal_bits(before[name], after[name])]
    return Demo(place, steps, 2 * len(before), tuple(dict.fromkeys(names)))


def _make(source: Path) -> None:
    family = family_named("bert")
    drawn = sample(family, "google", config_sizes(family, CONFIG), groups=GROUPS)
    # As a model begins: LayerNorm's gamma is 1, and not near 0, where nothing would get through.
    tensors = {name: value + np.float32(name.endswith("gamma")) for name, value in drawn.items()}
    write(source, tensors, format="tf-bundle")
    (source.parent / "bert_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def _round_trips(place: Path, source: Path) -> Iterator[Step]:
    """Each conversion with its ledger."""
    chain = (
        ("tf2ms", source, "bert_mindspore.ckpt", "mindspore"),
        ("ms2tf", place / "bert_mindspore.ckpt", "back_from_mindspore.ckpt", "tensorflow"),
        ("tf2pt", source, "bert_pytorch.safetensors", "pytorch"),
        ("pt2tf", place / "bert_pytorch.safetensors", "back_from_pytorch.ckpt", "tensorflow"),
    )
    for direction, start, name, to in chain:
        yield Step(f"port convert {direction} {start.name} -o {name}", convert(start, place / name, to=to))

"""What XLNet's tasks have in common in MindSpore: positions of features, masks of dropout, and taps among outputs."""

from __future__ import annotations

from typing import Any

import mindspore as ms

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import LAYER_SITES, LAYER_TAPS, Cell, Tensor, replaced
from porting_xlnet.mindspore_transformer import Transformer
from porting_xlnet.spec import SPEC, sites

TABLE = "transformer.word_embedding.embedding_table"
_ANY = {"input_ids": (1, 2), "input_k": (1, 2), "input_q": (1, 2), "target_mapping": (1, 1, 2)}


class XLNet(Cell):
    """The transformer beside the head of a task, which subclasses add.

    features: names of what is passed by position, None for what a batch lacks: those of the task, rows of the
    gathered table if the build asks for them, masks of dropout if they are shared, what is given in place of taps.
    outputs: names of what is returned, None for what cannot be made: those of the task, the loss, the taps of the
    build. gathered: the word table to the feature that gathers it, unless the table is the softmax's as well.
    """

    head_sites: tuple[str, ...] = ()
    head_taps: tuple[str, ...] = ()

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        task = SPEC.task(build.task)
        self.config = config
        self.transformer = Transformer(config, build)
        self.gathered = {} if build.task == "pretraining" else {TABLE: "input_ids"}
        rows = tuple(f"rows.{name}" for name in self.gathered) if build.extra.get("rows") else ()
        shared = sites(config, build, _ANY) if build.dropout.mode == "shared" else {}
        given = (f"given.{name}" for name in build.extra.get("given", ()))
        self.features = (*task.features, *rows, *(f"mask.{name}" for name in shared), *given)
        self.rows_at = self._place(rows[0]) if rows else -1
        self.masks_at = tuple(self._place(f"mask.{site}") for site in _all_sites(config, self.head_sites))
        self.outputs = (*task.outputs, "loss", *build.extra.get("taps", ()))
        made = (*_all_taps(config), "sequence", "new_mems", "loss", *self.head_taps)
        self.picks = tuple(made.index(name) if name in made else -1 for name in self.outputs)
        self.given_at = tuple(self._place(f"given.{name}") for name in made)
        self.inside, self.outside = made.index("sequence"), made.index("loss") + 1

    def _place(self, feature: str) -> int:
        return self.features.index(feature) if feature in self.features else -1

    def construct(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Features by position. Returns the outputs by position."""
        rows = None if self.rows_at < 0 else features[self.rows_at]
        drops, given = self._chosen(features, self.masks_at), self._chosen(features, self.given_at)
        sequence, new_mems, taps = self.transformer(self.inputs(*features), rows, drops, given[: self.inside])
        taken = replaced(sequence, given[self.inside])
        made = (*taps, sequence, new_mems, *self.head(taken, drops, given[self.outside :], *features))
        outputs: tuple[Tensor, ...] = ()
        for pick in self.picks:
            outputs = (*outputs, None if pick < 0 else self._plain(made[pick]))
        return outputs

    def _chosen(self, features: tuple[Tensor, ...], places: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Features at these places, None for those that are nowhere."""
        found: tuple[Tensor, ...] = ()
        for place in places:
            found = (*found, None if place < 0 else features[place])
        return found

    def _plain(self, value: Any) -> Any:
        if value is None or value.dtype not in (ms.float16, ms.bfloat16):
            return value
        return value.astype(ms.float32)

    def inputs(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Ids, segments, padding, permutation, mems, targets, mapping."""
        return features[0], features[1], features[2], None, None, None, None

    def head(
        self, sequence: Tensor, drops: tuple[Tensor, ...], given: tuple[Tensor, ...], *features: Tensor
    ) -> tuple[Tensor, ...]:
        """sequence: (b, i, h) or (b, p, h). drops: of all sites, the head's last. given: in place of head_taps.

        Returns the loss, then head_taps.
        """
        raise NotImplementedError


def _all_sites(config: XLNetConfig, of_head: tuple[str, ...]) -> tuple[str, ...]:
    """Every site that there can be, in the order that the cells count in."""
    layers = (
        f"layer.{layer}{stream}.{site}"
        for layer in range(config.n_layer)
        for stream in ("", ".query")
        for site in LAYER_SITES
    )
    return ("embeddings", "query.embeddings", "positions", *layers, "sequence", *of_head)


def _all_taps(config: XLNetConfig) -> tuple[str, ...]:
    layers = (
        f"layer.{layer}{stream}.{tap}"
        for layer in range(config.n_layer)
        for stream in ("", ".query")
        for tap in LAYER_TAPS
    )
    return ("embeddings", "query.embeddings", "positions", *layers)

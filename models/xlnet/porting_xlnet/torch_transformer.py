"""XLNet's transformer in PyTorch: embeddings, masks, relative positions, segments, mems, and the layers over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.positions import frequencies
from porting_xlnet.torch_layers import MASKED, Layer, Memory, Run, wide

TABLE = "transformer.word_embedding.weight"
BIASES = ("r_w_bias", "r_r_bias", "r_s_bias")


class Inputs(NamedTuple):
    """A batch by what its tensors are for. Names and axes are those of spec.FEATURES."""

    ids: Tensor
    segments: Tensor | None
    padding: Tensor | None
    permutation: Tensor | None
    mems: Tensor | None
    targets: Tensor | None = None
    mapping: Tensor | None = None

    @property
    def klen(self) -> int:
        """Keys that a layer attends to: mems and tokens."""
        return self.ids.shape[1] + (0 if self.mems is None else self.mems.shape[1])


class XLNet(nn.Module):
    """The transformer beside the head of a task, which subclasses add.

    gathered: the word table to the feature that gathers it, unless the table is the softmax's as well.
    """

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        self.config = config
        self.gathered = {TABLE: "input_ids"}
        self.dropout = build.dropout
        self.compute: torch.dtype = getattr(torch, build.compute)
        self.transformer = Transformer(config, with_query=build.task == "pretraining")

    def forward(
        self, batch: Mapping[str, Tensor], taps: Collection[str] = frozenset(), step: int = 0
    ) -> dict[str, Tensor]:
        """Outputs of the task, the loss if the batch has labels, and the taps asked for.

        step: not used; masks of dropout come with the batch.
        """
        del step
        run = Run(self.dropout, batch, taps, training=self.training)
        sequence = self.transformer(self.inputs(batch), run, self.compute)
        outputs = self.head(sequence, batch, run)
        return {
            name: wide(value) if value.is_floating_point() else value for name, value in {**outputs, **run.kept}.items()
        }

    def inputs(self, batch: Mapping[str, Tensor]) -> Inputs:
        """What the transformer reads of a batch."""
        names = ("input_ids", "segment_ids", "input_mask", "perm_mask", "mems")
        return Inputs(batch[names[0]], *(batch.get(name) for name in names[1:]))

    def head(self, sequence: Tensor, batch: Mapping[str, Tensor], run: Run) -> dict[str, Tensor]:
        """sequence: (b, i, h) or (b, p, h). Returns the outputs of the task."""
        raise NotImplementedError


class Transformer(nn.Module):
    """modeling.py, transformer_xl."""

    frequencies: Tensor

    def __init__(self, config: XLNetConfig, *, with_query: bool) -> None:
        super().__init__()
        self.config = config
        self.word_embedding = nn.Embedding(config.n_token, config.d_model)
        nn.init.normal_(self.word_embedding.weight, 0, config.init_std)
        if with_query:
            self.mask_emb = nn.Parameter(torch.empty(1, 1, config.d_model).normal_(0, config.init_std))
        first = Layer(config, {})
        shared = {} if config.untie_r else {name: getattr(first.rel_attn, name) for name in BIASES}
        self.layer = nn.ModuleList([first, *(Layer(config, shared) for _ in range(config.n_layer - 1))])
        self.register_buffer("frequencies", torch.from_numpy(frequencies(config.d_model)), persistent=False)

    def forward(self, inputs: Inputs, run: Run, compute: torch.dtype) -> Tensor:
        """The last layer after dropout: of the query stream where there are targets, else of the content stream."""
        content, query = self._embed(inputs, run, compute)
        batch = inputs.ids.shape[0]
        mems = None if inputs.mems is None else inputs.mems.transpose(1, 2).to(compute)
        positions = self._positions(inputs, run).to(compute)
        differs = _differs(inputs, batch)
        masks = self._masks(inputs)
        caches = []
        for i, layer in enumerate(self.layer):
            past = None if mems is None else mems[i]
            if self.config.caches:
                caches.append(self._cache(content, past))
            content, query = layer(
                content, query, Memory(past, positions, differs, masks, inputs.mapping), run, f"layer.{i}"
            )
        if caches:
            run.kept["new_mems"] = torch.stack(caches)
        output = run.drop("sequence", content if query is None else query, self.config.dropout)
        return run.tap("sequence", output)

    def _embed(self, inputs: Inputs, run: Run, compute: torch.dtype) -> tuple[Tensor, Tensor | None]:
        rate = self.config.dropout
        words = self.word_embedding(inputs.ids)
        rows = run.batch.get(f"rows.{TABLE}")
        words = (words if rows is None else words + rows).to(compute)
        content = run.tap("embeddings", run.drop("embeddings", words, rate))
        if inputs.targets is None:
            return content, None
        unknown = self.mask_emb.to(compute)
        if inputs.mapping is None:
            share = inputs.targets[..., None].to(compute)
            query = share * unknown + (1 - share) * words
        else:
            query = unknown.expand(inputs.ids.shape[0], inputs.mapping.shape[1], -1)
        return content, run.tap("query.embeddings", run.drop("query.embeddings", query, rate))

    def _positions(self, inputs: Inputs, run: Run) -> Tensor:
        """(b, r, h), or (1, r, h) where all examples have the same. modeling.py, relative_positional_encoding."""
        config, batch, klen = self.config, inputs.ids.shape[0], inputs.klen
        count = config.positions(inputs.ids.shape[1], klen)
        place = klen - torch.arange(count, device=inputs.ids.device, dtype=self.frequencies.dtype)
        directions = torch.stack((place, -place)) if config.bi_data else place[None]
        if config.clamp_len > 0:
            directions = directions.clamp(-config.clamp_len, config.clamp_len)
        angles = directions[..., None] * self.frequencies
        table = torch.cat((angles.sin(), angles.cos()), -1)
        if config.bi_data:
            table = table.repeat_interleave(batch // 2, 0)
        if run.drops("positions", config.dropout):
            table = run.drop("positions", table.expand(batch, -1, -1), config.dropout)
        return run.tap("positions", table)

    def _masks(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """What is added to scores of the content and of the query stream, (b or 1, 1, i or 1, j)."""
        qlen, klen, device = inputs.ids.shape[1], inputs.klen, inputs.ids.device
        row = torch.arange(qlen, device=device)[:, None] + (klen - qlen)
        column = torch.arange(klen, device=device)
        hidden = None
        if self.config.attn_type == "uni":
            hidden = (column > row)[None]
            if self.config.same_length:
                hidden = hidden | (column < row - (klen - qlen))
        data = _data_mask(inputs)
        if data is not None:
            data = nn.functional.pad(data, (klen - qlen, 0))
            hidden = data if hidden is None else hidden | data
        if hidden is None:
            return None, None
        of_content = hidden & (column != row)
        return tuple(-MASKED * mask[:, None].to(self.frequencies.dtype) for mask in (of_content, hidden))  # type: ignore[return-value]

    def _cache(self, content: Tensor, past: Tensor | None) -> Tensor:
        """(m, b, h): the newest mem_len inputs of the layer, without a gradient. modeling.py, _cache_mem."""
        kept = content[:, : self.config.reuse_len] if self.config.reuse_len else content
        kept = kept if past is None else torch.cat((past, kept), 1)
        return kept[:, -self.config.mem_len :].detach().transpose(0, 1)


def _differs(inputs: Inputs, batch: int) -> Tensor | None:
    """(b, 1, i, j): whether the key is of another segment than the query; mems are of segment 0."""
    if inputs.segments is None:
        return None
    mems = inputs.segments.new_zeros(batch, inputs.klen - inputs.ids.shape[1])
    keys = torch.cat((mems, inputs.segments), 1)
    return (inputs.segments[:, :, None] != keys[:, None])[:, None]


def _data_mask(inputs: Inputs) -> Tensor | None:
    """(b, i or 1, i): which tokens padding and permutation hide."""
    if inputs.padding is None:
        return None if inputs.permutation is None else inputs.permutation > 0
    padding = inputs.padding[:, None]
    return (padding if inputs.permutation is None else padding + inputs.permutation) > 0

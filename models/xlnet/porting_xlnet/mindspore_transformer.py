"""XLNet's transformer in MindSpore: embeddings, masks, relative positions, segments, mems, and the layers over them."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import MASKED, Cell, Drop, Layer, Tensor, drawn, replaced
from porting_xlnet.positions import frequencies


class Embedding(Cell):
    """The word table."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.embedding_table = drawn(config, config.n_token, config.d_model)

    def construct(self, ids: Tensor) -> Tensor:
        """(b, i) to (b, i, h)."""
        return ops.gather(self.embedding_table, ids, 0)


class Transformer(Cell):
    """modeling.py, transformer_xl. Returns the output, the new mems, and values of the taps before them."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        own = build.dropout.mode == "own"
        self.config = config
        self.n_layer, self.tied, self.uni = config.n_layer, not config.untie_r, config.attn_type == "uni"
        self.compute = getattr(ms, build.compute)
        self.word_embedding = Embedding(config)
        if build.task == "pretraining":
            self.mask_emb = drawn(config, 1, 1, config.d_model)
        layers = [Layer(config, with_biases=i == 0 or config.untie_r, own=own) for i in range(config.n_layer)]
        self.layer = nn.CellList(layers)
        self.drop_content, self.drop_query, self.drop_positions, self.drop_output = (
            Drop(config.dropout, own=own) for _ in range(4)
        )
        self.repeats_positions = own and config.dropout > 0
        self.frequencies = ms.Tensor(frequencies(config.d_model))

    def construct(
        self, inputs: tuple[Tensor, ...], rows: Tensor, drops: tuple[Tensor, ...], given: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """inputs: ids, segments, padding, permutation, mems, targets, mapping as in spec.FEATURES, None for none.

        rows: to add to gathered rows of the table, or None. drops: masks by site, given: in place of taps, both in
        mindspore_model's order.
        """
        ids, segments, padding, permutation, mems, targets, mapping = inputs
        qlen = ids.shape[1]
        mlen = 0 if mems is None else mems.shape[1]
        content, query = self._embed(ids, targets, mapping, rows, drops)
        positions = self._positions(ids.shape[0], qlen, mlen + qlen, drops[2])
        differs = self._differs(segments, mlen)
        masks = self._masks(qlen, mlen, padding, permutation)
        taps = (content, query, positions)
        content, positions = replaced(content, given[0]), replaced(positions, given[2])
        query = None if query is None else replaced(query, given[1])
        caches: tuple[Tensor, ...] = ()
        for i in range(self.n_layer):
            past = None if mems is None else mems[i].swapaxes(0, 1).astype(self.compute)
            if self.config.mem_len:
                caches = (*caches, self._cache(content, past))
            memory = (past, positions.astype(self.compute), differs, masks, mapping)
            own = slice(3 + 8 * i, 11 + 8 * i)
            content, query, seen = self.layer[i](content, query, memory, self._biases(i), drops[own], given[own])
            taps = taps + seen
        new_mems = ops.stack(caches) if self.config.mem_len else None
        output = self.drop_output(content if query is None else query, drops[3 + 8 * self.n_layer])
        return output, new_mems, taps

    def _biases(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer[0 if self.tied else index].rel_attn
        return attention.r_w_bias, attention.r_r_bias, attention.r_s_bias

    def _embed(
        self, ids: Tensor, targets: Tensor, mapping: Tensor, rows: Tensor, drops: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        words = self.word_embedding(ids)
        if rows is not None:
            words = words + rows
        words = words.astype(self.compute)
        content = self.drop_content(words, drops[0])
        if targets is None:
            return content, None
        unknown = self.mask_emb.astype(self.compute)
        if mapping is None:
            share = ops.expand_dims(targets, 2).astype(self.compute)
            query = share * unknown + (1 - share) * words
        else:
            query = ops.tile(unknown, (ids.shape[0], mapping.shape[1], 1))
        return content, self.drop_query(query, drops[1])

    def _positions(self, batch: int, qlen: int, klen: int, mask: Tensor) -> Tensor:
        """(b, r, h), or (1, r, h) where all examples have the same. modeling.py, relative_positional_encoding."""
        count = klen + (1 if self.uni else qlen)
        place = (klen - ops.arange(count)).astype(ms.float32)
        directions = ops.stack((place, -place)) if self.config.bi_data else ops.expand_dims(place, 0)
        if self.config.clamp_len > 0:
            directions = ops.clamp(directions, -self.config.clamp_len, self.config.clamp_len)
        angles = ops.expand_dims(directions, 2) * self.frequencies
        table = ops.cat((ops.sin(angles), ops.cos(angles)), 2)
        if self.config.bi_data:
            table = ops.repeat_interleave(table, batch // 2, 0)
        if self.repeats_positions:
            table = ops.broadcast_to(table, (batch, count, table.shape[2]))
        return self.drop_positions(table, mask)

    def _differs(self, segments: Tensor, mlen: int) -> Tensor:
        """(b, 1, i, j): whether the key is of another segment than the query; mems are of segment 0."""
        if segments is None:
            return None
        keys = segments
        if mlen:
            keys = ops.cat((ops.zeros((segments.shape[0], mlen), segments.dtype), segments), 1)
        return ops.expand_dims(ops.expand_dims(segments, 2) != ops.expand_dims(keys, 1), 1)

    def _masks(self, qlen: int, mlen: int, padding: Tensor, permutation: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to scores of the content and of the query stream, float32, (b or 1, 1, i or 1, j)."""
        row = ops.expand_dims(ops.arange(qlen), 1) + mlen
        column = ops.expand_dims(ops.arange(mlen + qlen), 0)
        hidden = None
        if self.uni:
            hidden = ops.expand_dims(column > row, 0)
            if self.config.same_length:
                hidden = ops.logical_or(hidden, column < row - mlen)
        if padding is not None or permutation is not None:
            data = self._data_mask(padding, permutation)
            if mlen:
                visible = ops.zeros((data.shape[0], data.shape[1], mlen), ms.float32)
                data = ops.cat((visible, data), 2)
            data = data > 0
            hidden = data if hidden is None else ops.logical_or(hidden, data)
        if hidden is None:
            return None, None
        of_content = ops.logical_and(hidden, column != row)
        return self._penalty(of_content), self._penalty(hidden)

    def _penalty(self, mask: Tensor) -> Tensor:
        return ops.expand_dims(mask, 1).astype(ms.float32) * -MASKED

    def _data_mask(self, padding: Tensor, permutation: Tensor) -> Tensor:
        """(b, i or 1, i): above 0 where padding or permutation hide a token."""
        if padding is None:
            return permutation
        if permutation is None:
            return ops.expand_dims(padding, 1)
        return ops.expand_dims(padding, 1) + permutation

    def _cache(self, content: Tensor, past: Tensor) -> Tensor:
        """(m, b, h): the newest mem_len inputs of the layer, without a gradient. modeling.py, _cache_mem."""
        kept = content[:, : self.config.reuse_len] if self.config.reuse_len else content
        if past is not None:
            kept = ops.cat((past, kept), 1)
        return ops.stop_gradient(kept[:, max(0, kept.shape[1] - self.config.mem_len) :]).swapaxes(0, 1)

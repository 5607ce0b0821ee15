"""The published sizes by name. models/bert/configs holds the same as config files.

BERT: google-research/bert README (the 24 smaller models of March 2020 among them; `bert-base` and `bert-large` are the
uncased ones), ymcui/Chinese-BERT-wwm. RoBERTa: fairseq examples/roberta, transformers' config.json of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from porting_bert.config import BertConfig


def _bert(layers: int, hidden: int, heads: int = 0, vocab: int = 30522) -> BertConfig:
    return BertConfig(vocab, hidden, layers, heads or hidden // 64, 4 * hidden)


def _roberta(layers: int, hidden: int) -> BertConfig:
    return replace(
        _bert(layers, hidden, vocab=50265),
        hidden_act="gelu_erf",
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        model_type="roberta",
    )


BERT: Mapping[str, BertConfig] = {
    "bert-tiny": _bert(2, 128),
    "bert-mini": _bert(4, 256),
    "bert-small": _bert(4, 512),
    "bert-medium": _bert(8, 512),
    "bert-base": _bert(12, 768),
    "bert-large": _bert(24, 1024),
    "bert-base-cased": _bert(12, 768, vocab=28996),
    "bert-large-cased": _bert(24, 1024, vocab=28996),
    "bert-base-multilingual-cased": _bert(12, 768, vocab=119547),
    "bert-base-chinese": _bert(12, 768, vocab=21128),
    "roberta-wwm-ext": _bert(12, 768, vocab=21128),
    "roberta-wwm-ext-large": _bert(24, 1024, vocab=21128),
    "roberta-3-large-ext": _bert(3, 1024, vocab=21128),
}

ROBERTA: Mapping[str, BertConfig] = {
    "roberta-base": _roberta(12, 768),
    "roberta-large": _roberta(24, 1024),
    "roberta-3-large": _roberta(3, 1024),
}

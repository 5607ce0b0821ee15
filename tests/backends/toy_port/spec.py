"""BERT's names on two dense layers; all weights are stored alike in the three frameworks.

It has a gathered table and a one-hot one, a frozen table (positions), a head that the loss does not reach
(the pooler), and dropout after the embeddings.
"""

from dataclasses import asdict, dataclass

import numpy as np

from porting.model.spec import Feature, ModelSpec, Site, Tap, Task

HIDDEN, VOCAB, POSITIONS, LABELS = 6, 11, 8, 3

NAMES = {
    # google: (hf, modelzoo, shape)
    "bert/embeddings/word_embeddings": (
        "bert.embeddings.word_embeddings.weight",
        "bert.bert_embedding_lookup.embedding_table",
        (VOCAB, HIDDEN),
    ),
    "bert/embeddings/token_type_embeddings": (
        "bert.embeddings.token_type_embeddings.weight",
        "bert.bert_embedding_postprocessor.token_type_embedding.embedding_table",
        (2, HIDDEN),
    ),
    "bert/embeddings/position_embeddings": (
        "bert.embeddings.position_embeddings.weight",
        "bert.bert_embedding_postprocessor.full_position_embedding.embedding_table",
        (POSITIONS, HIDDEN),
    ),
    "bert/embeddings/LayerNorm/gamma": (
        "bert.embeddings.LayerNorm.weight",
        "bert.bert_embedding_postprocessor.layernorm.gamma",
        (HIDDEN,),
    ),
    "bert/embeddings/LayerNorm/beta": (
        "bert.embeddings.LayerNorm.bias",
        "bert.bert_embedding_postprocessor.layernorm.beta",
        (HIDDEN,),
    ),
    "bert/encoder/layer_0/intermediate/dense/kernel": (
        "bert.encoder.layer.0.intermediate.dense.weight",
        "bert.bert_encoder.layers.0.intermediate.weight",
        (HIDDEN, HIDDEN),
    ),
    "bert/encoder/layer_0/intermediate/dense/bias": (
        "bert.encoder.layer.0.intermediate.dense.bias",
        "bert.bert_encoder.layers.0.intermediate.bias",
        (HIDDEN,),
    ),
    "bert/encoder/layer_1/intermediate/dense/kernel": (
        "bert.encoder.layer.1.intermediate.dense.weight",
        "bert.bert_encoder.layers.1.intermediate.weight",
        (HIDDEN, HIDDEN),
    ),
    "bert/encoder/layer_1/intermediate/dense/bias": (
        "bert.encoder.layer.1.intermediate.dense.bias",
        "bert.bert_encoder.layers.1.intermediate.bias",
        (HIDDEN,),
    ),
    "bert/pooler/dense/kernel": ("bert.pooler.dense.weight", "bert.dense.weight", (HIDDEN, HIDDEN)),
    "output_weights": ("classifier.weight", "dense_1.weight", (LABELS, HIDDEN)),
    "output_bias": ("classifier.bias", "dense_1.bias", (LABELS,)),
}
FROZEN = "bert/embeddings/position_embeddings"
GATHERED = "bert/embeddings/word_embeddings"
UNUSED = "bert/pooler/dense/kernel"
COLUMN = {"google": None, "hf": 0, "modelzoo": 1}


def name_in(dialect, google):
    column = COLUMN[dialect]
    return google if column is None else NAMES[google][column]


def shapes(dialect):
    return {name_in(dialect, google): row[2] for google, row in NAMES.items()}


def weights(dialect, seed=0):
    random = np.random.default_rng(seed)
    return {name_in(dialect, g): random.normal(0, 0.4, row[2]).astype(np.float32) for g, row in NAMES.items()}


def batch(seed=1, size=3, seq=5):
    random = np.random.default_rng(seed)
    return {
        "input_ids": random.integers(0, 4, (size, seq)).astype(np.int32),  # few ids: rows of one table repeat
        "segment_ids": random.integers(0, 2, (size, seq)).astype(np.int32),
        "label_ids": random.integers(0, LABELS, (size,)).astype(np.int32),
    }


@dataclass(frozen=True)
class ToyConfig:
    vocab_size: int = VOCAB
    dropout: float = 0.3

    def to_dict(self):
        return asdict(self)


def _sites(config, build, shape):
    return {"embeddings": Site((*shape["input_ids"], HIDDEN), config.dropout)}


TOY = ModelSpec(
    name="toy",
    family="bert",
    package="toy_port",
    sizes={"toy": ToyConfig()},
    configure=lambda values: ToyConfig(**values),
    tasks=(Task("classify", ("input_ids", "segment_ids", "label_ids"), ("logits",)),),
    features=(
        Feature("input_ids", "batch seq", "int32", below="vocab_size"),
        Feature("segment_ids", "batch seq", "int32", below="type_vocab_size"),
        Feature("label_ids", "batch", "int32", optional=True, below="labels"),
    ),
    taps=(
        Tap("embeddings", "batch seq hidden", "after LayerNorm and dropout"),
        Tap("layer.{layer}.output", "batch seq hidden", "after the residual"),
        Tap("logits", "batch labels", "of the head"),
        Tap("loss", "", "mean cross-entropy"),
    ),
    dialects={"pytorch": "hf", "tensorflow": "google", "mindspore": "modelzoo"},
    bounds=lambda config: {"vocab_size": config.vocab_size, "type_vocab_size": 2, "seq": POSITIONS},
    sites=_sites,
)

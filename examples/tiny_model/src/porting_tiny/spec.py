"""What tiny is in every framework."""

from collections.abc import Mapping
from typing import Any

from porting.model.spec import Feature, ModelSpec, Tap, Task
from porting_tiny.config import TinyConfig


def configure(values: Mapping[str, Any]) -> TinyConfig:
    """A config from a file's values; keys that are not tiny's are left out."""
    return TinyConfig(**{key: values[key] for key in ("vocab_size", "hidden_size", "num_labels") if key in values})


def bounds(config: TinyConfig) -> dict[str, int]:
    """Ids are below the vocabulary, labels below their number."""
    return {"vocab_size": config.vocab_size, "num_labels": config.num_labels}


SPEC = ModelSpec(
    name="tiny",
    family="tiny",
    package="porting_tiny",
    sizes={"tiny-16": TinyConfig()},
    configure=configure,
    tasks=(Task("classification", ("input_ids", "label_ids"), ("logits",)),),
    features=(
        Feature("input_ids", "batch seq", "int32", below="vocab_size"),
        Feature("label_ids", "batch", "int32", optional=True, below="num_labels"),
    ),
    taps=(
        Tap("bag", "batch hidden", "the mean of the embeddings"),
        Tap("hidden", "batch hidden", "after the dense layer and tanh"),
        Tap("logits", "batch label", "the scores of the classes"),
        Tap("loss", "", "the mean cross-entropy"),
    ),
    dialects={"pytorch": "torch"},
    bounds=bounds,
)

"""What is run on both sides: a model, where its weights come from, and a batch. Plain values, so it travels as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from porting.backends.protocol import Build
from porting.convert.config import find_config, read_config
from porting.convert.registry import family_named
from porting.errors import UsageError
from porting.model.registry import models
from porting.model.spec import Config, ModelSpec

PREFERRED = ("pretraining", "classification")
"""Tasks that are run unless one is named: those that reach most of a model."""

LABELS = 2
"""Classes of a head that no checkpoint tells."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its weights and a batch.

    model: the spec's name. config: its values. task, labels, extra: as in Build. checkpoint: a path, whose weights in
    any format and dialect are taken; None for those of the probe, drawn from `seed`. batch: a file of features; None
    for the probe's batch, of `examples` by `length`. Every side makes the same of it, in its own process.
    """

    model: str
    config: Mapping[str, Any]
    task: str
    labels: int = 2
    extra: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    seed: int = 0
    batch: str | None = None
    examples: int | None = None
    length: int | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return models()[self.model]

    def configured(self) -> Config:
        """The config. Raises: UsageError naming the field that makes no sense."""
        return self.spec.configure(self.config)

    def build(self, **changes: Any) -> Build:
        """How it is built. changes: of Build's other fields (mode, compute, device)."""
        return Build(self.task, labels=self.labels, extra=dict(self.extra), **changes)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Subject:
        """From what `to_json` gave."""
        return cls(**values)


def subject(  # noqa: PLR0913 - one keyword per choice
    model: str,
    *,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    task: str | None = None,
    labels: int | None = None,
    batch: str | Path | None = None,
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
    examples: int | None = None,
    length: int | None = None,
) -> Subject:
    """A subject from what a user names.

    model: a spec (`bert`), whose config is that of `config`, of a file beside the checkpoint, or for the probe a
    tiny one; or a published size (`bert-base`).
    labels: of a classification; by default those that the checkpoint's head has, 2 without one, 1 of a regression.
    Raises: UsageError for a model, size or task that is not known, or a config that makes no sense; FormatError;
    MismatchError for a checkpoint of something else.
    """
    spec, size = _named(model)
    found = Subject(
        model=spec.name,
        config=_config(spec, size, config, Path(checkpoint) if checkpoint else None).to_dict(),
        task=task or _preferred(spec),
        labels=_labels(spec, checkpoint) if labels is None else labels,
        extra=dict(extra or {}),
        checkpoint=str(Path(checkpoint).absolute()) if checkpoint else None,
        seed=seed,
        batch=str(Path(batch).absolute()) if batch else None,
        examples=examples,
        length=length,
    )
    spec.task(found.task)
    return replace(found, labels=1) if labels is None and found.task == "regression" else found


def _labels(spec: ModelSpec, checkpoint: str | Path | None) -> int:
    if checkpoint is None:
        return LABELS
    from porting.parity.stored import labels_in

    return labels_in(Path(checkpoint), spec) or LABELS


def _named(model: str) -> tuple[ModelSpec, Config | None]:
    if model in models():
        return models()[model], None
    for spec in models().values():
        if model in spec.sizes:
            return spec, spec.sizes[model]
    sizes = ", ".join(size for spec in models().values() for size in spec.sizes)
    raise UsageError(f"model {model}: not known; there are {', '.join(models())}, and the sizes {sizes}")


def _config(spec: ModelSpec, size: Config | None, given: str | Path | None, checkpoint: Path | None) -> Config:
    if given is not None:
        return spec.configure(read_config(Path(given)).values)
    if size is not None:
        return size
    if checkpoint is None:
        from porting.testing.tiny import tiny

        return tiny(spec)
    found = find_config(family_named(spec.family), checkpoint, None)
    if found.path is None:
        raise UsageError(
            f"{checkpoint}: no config beside it, and shapes do not tell heads or activation: pass --config, or a size"
        )
    return spec.configure(found.values)


def _preferred(spec: ModelSpec) -> str:
    names = [task.name for task in spec.tasks]
    return next((name for name in PREFERRED if name in names), names[0])

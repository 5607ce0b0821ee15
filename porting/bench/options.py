"""From what a user writes to a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from porting.acceptance.inputs import input_of, inputs_of
from porting.bench.cell import Setting
from porting.bench.corpus import from_files, generated
from porting.bench.matrix import Matrix
from porting.data.tasks import task_named
from porting.errors import UsageError
from porting.model.spec import Compute

MODES = ("", "eager", "graph")


def matrix_of(  # noqa: PLR0913 - one keyword per option
    *,
    models: str,
    batch_sizes: str,
    backends: str = "cpu",
    task: str = "cola",
    epochs: int = 5,
    examples: int | None = None,
    train: Sequence[Path] = (),
    evaluation: Sequence[Path] = (),
    checkpoints: Sequence[str] = (),
    length: int = 128,
    learning_rate: float = 2e-5,
    seed: int = 0,
    compute: str = "float32",
    mode: str = "",
    period: float = 0.2,
) -> Matrix:
    """What the options of `port bench run` ask for. Raises: UsageError naming the option; FormatError for a file."""
    name = task_named(task).name
    if not train and not evaluation and name != "cola":
        raise UsageError(f"--task {name}: only cola has generated examples: pass --train and --eval")
    if seed < 0:
        raise UsageError(f"--seed: wanted at least 0, got {seed}")
    files = bool(train or evaluation)
    data = from_files(train, evaluation, examples) if files else generated(examples, seed=seed, length=length)
    setting = Setting(
        task=name, data=data, checkpoints=dict(map(_checkpoint, checkpoints)), epochs=epochs,
        learning_rate=learning_rate, seed=seed, compute=_compute(compute), mode=_mode(mode), period=period,
    )  # fmt: skip
    return Matrix(_words(models), tuple(map(_size, _words(batch_sizes))), _backends(backends), setting)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _backends(text: str) -> tuple[str, ...]:
    """Names; an option of a name (`npu,cube=hf32`) has a comma before it too."""
    found: list[str] = []
    for word in _words(text):
        if "=" in word and found and "@" not in word:
            found[-1] += f",{word}"
        else:
            found.append(word)
    return tuple(found)


def _size(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--batch-sizes: wanted whole numbers with commas, got {text}")
    return int(text)


def _compute(text: str) -> Compute:
    for known in get_args(Compute):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"--compute: wanted one of {', '.join(get_args(Compute))}, got {text}")


def _mode(text: str) -> str:
    if text not in MODES:
        raise UsageError(f"--mode: wanted eager or graph, got {text}")
    return text


def _checkpoint(text: str) -> tuple[str, dict[str, object]]:
    """Raises: UsageError for what is no MODEL=PATH; FormatError for a path that cannot be read."""
    model, equals, path = text.partition("=")
    if not equals or not model or not path:
        raise UsageError(f"--checkpoint: wanted MODEL=PATH, got {text}")
    place = Path(path).absolute()
    found = inputs_of([place]) if place.is_dir() else (input_of(place),)
    return model, {"path": str(place), "hash": [one.hash for one in found]}

"""Options of a training run from a file, beneath those of the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from porting.errors import FormatError, UsageError

LARGEST = 1 << 20
"""Bytes of a file of options."""

OPTIONS = frozenset({
    "model", "task", "checkpoint", "model_config", "train", "eval", "schema", "backend", "dtype", "recipe", "epochs",
    "steps", "batch_size", "eval_batch_size", "learning_rate", "warmup", "weight_decay", "loss_scale", "seed",
    "dropout", "save_steps", "max_ckpt_num", "eval_steps", "log_steps", "export", "output",
})  # fmt: skip
"""Of `port finetune`; its flags have the same names, with dashes."""


def read_options(path: str | Path, known: Collection[str] = OPTIONS) -> dict[str, Any]:
    """The options of a file, TOML or by its suffix JSON: by name, with underscores for dashes.

    known: all names there are. Raises: FormatError for a file that is neither, a table, or a name that is not known,
    with the nearest one.
    """
    from porting.checkpoint.format import whole  # which imports numpy: commands show their help without

    place = Path(path)
    text = whole(place, LARGEST)
    try:
        found = json.loads(text) if place.suffix == ".json" else tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        kind = "JSON" if place.suffix == ".json" else "TOML"
        raise FormatError(place, "", f"wanted {kind}, got {error}") from None
    if not isinstance(found, dict):
        raise FormatError(place, "", f"wanted options by name, got {type(found).__name__}")
    options: dict[str, Any] = {}
    for name, value in found.items():
        plain = name.replace("-", "_")
        if plain not in known:
            near = get_close_matches(plain, sorted(known), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise FormatError(place, name, f"is no option; {hint}")
        if plain in options:
            raise FormatError(place, name, "stands there twice, with dashes and with underscores")
        if isinstance(value, dict):
            raise FormatError(place, name, "wanted a value, got a table")
        options[plain] = value
    return options


def merged(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file beneath flags: a flag that is not None wins."""
    return {**file, **{name: value for name, value in flags.items() if value is not None}}


def flag(name: str) -> str:
    """An option as on the command line."""
    return "--" + name.replace("_", "-")


def required(options: Mapping[str, Any], *names: str) -> None:
    """Raises: UsageError for options that neither a flag nor the file gives."""
    missing = [flag(name) for name in names if options.get(name) in (None, "", [], ())]
    if missing:
        raise UsageError(f"{', '.join(missing)}: wanted, as a flag or in the file of --config")

"""Records of `port data glue` as the examples of a model's task, all of them checked before the first step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from porting.convert.registry import family_named
from porting.convert.sizes import config_sizes
from porting.data.layout import Style, style_of
from porting.data.schema import LABEL, REAL, SCHEMA, Column, Schema, account_path, read_schema
from porting.data.tasks import TASKS, Task
from porting.data.vocabulary import require_fit
from porting.errors import FormatError, UsageError
from porting.model.spec import Config, Feature, ModelSpec
from porting.train.batches import MINDRECORD, Records, columns_of, limits, load
from porting.train.evaluation import LABELS

_KINDS = {"int32": ("int64", "int32"), "float32": ("float32",)}
"""A feature's dtypes in a record: the first in a TFRecord, whole numbers of 32 bits in a MindRecord."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What examples are read for. task: the model's, classification or regression. labels: classes, 1 of values."""

    spec: ModelSpec
    config: Config
    glue: Task
    task: str
    labels: int


def labels_of(glue: Task, files: Sequence[Path]) -> int:
    """Classes of a task: those that the first file's account names, else the task's own; 1 of a regression."""
    said = _account(files[0]).get("labels") if files else None
    return len(said) if isinstance(said, list) and said else max(len(glue.labels), 1)


def read_examples(
    files: Sequence[Path], wanted: Wanted, *, schema: Path | None = None, labelled: bool = False
) -> Records:
    """All examples of these files, as a session takes them; those that only fill a batch are left out.

    schema: None for the schema.json beside the first file; a MindRecord has its own. labelled: refuse what is known to
    be a test set.
    Raises: UsageError for a schema, a vocabulary or a task that does not fit the model; FormatError by file and record.
    """
    packed = schema is None and files[0].suffix == MINDRECORD
    place = files[0] if packed else schema or files[0].parent / SCHEMA
    columns = columns_of(place) if packed else read_schema(place)
    chosen = _features(place, columns, wanted)
    for file in files:
        check_account(file, wanted.spec, wanted.config, task=wanted.glue.name, labelled=labelled)
    named = {column.name for column in columns}
    extra = {REAL: REAL} if REAL in named else {}
    below = limits(wanted.spec, wanted.spec.bounds(wanted.config), wanted.labels)
    return real_examples(files[0], load(files, columns, {**chosen, **extra}, below))


def real_examples(place: Path, records: Records) -> Records:
    """Those that do not only fill a batch, where the records tell by a feature `REAL`, which goes.

    Raises: UsageError where there is none.
    """
    arrays = dict(records.arrays)
    real = arrays.pop(REAL, None)
    if real is None or real.all():
        return Records(arrays, records.count)
    kept = real.astype(bool)
    if not kept.any():
        raise UsageError(f"{place}: holds nothing but padding examples ({REAL} is 0)")
    return Records({name: array[kept] for name, array in arrays.items()}, int(kept.sum()))


def _features(place: Path, columns: Schema, wanted: Wanted) -> dict[str, str]:
    """By feature of the model the column it is read from. Raises: FormatError for a schema of another kind of model."""
    known = {column.name: column for column in columns}
    features = {feature.name: feature for feature in wanted.spec.features}
    chosen: dict[str, str] = {}
    for name in wanted.spec.task(wanted.task).features:
        column = LABEL if name in LABELS else name
        if column in known:
            chosen[name] = column
            _check_column(place, known[column], features[name], wanted)
        elif name in LABELS or not features[name].optional:
            raise FormatError(place, column, f"wanted this column, there are {', '.join(known)}")
    return chosen


def _check_column(place: Path, column: Column, feature: Feature, wanted: Wanted) -> None:
    kind, *others = _KINDS[feature.dtype]
    if column.dtype not in (kind, *others):
        why = {
            "input_mask": "BERT's layout has 1 for tokens, XLNet's 1 for padding as float32: make the records with "
            "the model's own vocabulary file",
            LABEL: f"{wanted.glue.name} wants {'values' if kind == 'float32' else 'classes'}",
        }.get(column.name, "")
        tail = f" ({why})" if why else ""
        raise FormatError(place, column.name, f"wanted {kind} for {wanted.spec.name}, got {column.dtype}{tail}")
    longest = wanted.spec.bounds(wanted.config).get("seq")
    if feature.axes == "batch seq" and longest is not None and column.shape[:1] > (longest,):
        text = f"wanted a length of {longest} at most, which the model takes, got {column.shape[0]}"
        raise FormatError(place, column.name, text)


def check_account(file: Path, spec: ModelSpec, config: Config, *, task: str | None, labelled: bool) -> None:
    """Hold a file against what is written down beside it of how it was made, where that is there.

    task: of GLUE, None for any. labelled: refuse what is known to be a test set. Raises: UsageError, FormatError.
    """
    said = _account(file)
    size = said.get("vocabulary_size")
    model = config_sizes(family_named(spec.family), config.to_dict()).get("vocab")
    if isinstance(size, int) and model is not None:
        require_fit(file, size, spec.name, model)
    style, laid = style_of(spec.family), said.get("layout")
    if laid in get_args(Style) and laid != style:
        raise UsageError(f"{file}: is laid out as {laid} wants it, {spec.name} wants {style}'s layout and vocabulary")
    made_of = said.get("task")
    if task is not None and made_of in TASKS and made_of != task:
        raise UsageError(f"{file}: holds examples of {made_of}, --task is {task}")
    if labelled and said.get("split") == "test":
        raise UsageError(f"{file}: is a test set, whose labels are not known: nothing can be evaluated on it")


def _account(file: Path) -> Mapping[str, Any]:
    path = account_path(file)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise FormatError(path, "", "is no account of records (a JSON object): remove it to go without") from None
    return found if isinstance(found, dict) else {}

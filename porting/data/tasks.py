"""The classification tasks: their labels in the originals' order, and where their columns stand.

Sources: google-research/bert, run_classifier.py (CoLA, MRPC, MNLI); zihangdai/xlnet, run_classifier.py (STS-B);
transformers, glue processors, and the TinyBERT guide of MindSpore's models (SST-2, QNLI, QQP, RTE, WNLI, TNEWS);
the column names are those of GLUE's own files and of the exports that are in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from porting.errors import FormatError, UsageError

Split = Literal["train", "dev", "test"]
LAST = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row's parts stand: numbers of columns, or keys of JSON objects. b, label: None where there is none.

    width: columns of the header, 0 without one.
    """

    a: int | str
    b: int | str | None
    label: int | str | None
    width: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A task. labels: empty for a regression. a, b, label: names of columns, the usual one first.

    plain: where the columns stand in a file without a header. plain_test: the same in a test set.
    headed: whether train and dev have a header as a rule.
    """

    name: str
    labels: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    label: tuple[str, ...]
    plain: Columns
    plain_test: Columns

    @property
    def regression(self) -> bool:
        """Whether the label is a number."""
        return not self.labels


_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_ONE = ("sentence", "text", "sentence1", "content")
_FIRST, _SECOND = ("sentence1", "premise", "text_a"), ("sentence2", "hypothesis", "text_b")
_TNEWS = tuple(str(100 + number) for number in range(17) if number not in {5, 11})

_TASKS = (
    Task("cola", _BINARY, _ONE, (), ("label",), Columns(3, None, 1), Columns(1, None, None)),
    Task("sst-2", _BINARY, _ONE, (), ("label",), Columns(0, None, 1), Columns(1, None, None)),
    Task(
        "mrpc", _BINARY, ("#1 string", *_FIRST), ("#2 string", *_SECOND), ("quality", "label"),
        Columns(3, 4, 0), Columns(3, 4, None),
    ),
    Task(
        "qqp", _BINARY, ("question1", *_FIRST), ("question2", *_SECOND), ("is_duplicate", "label"),
        Columns(3, 4, 5), Columns(1, 2, None),
    ),
    Task(
        "mnli", ("contradiction", "entailment", "neutral"), _FIRST, _SECOND, ("gold_label", "label"),
        Columns(8, 9, LAST), Columns(8, 9, None),
    ),
    Task(
        "qnli", _ENTAILMENT, ("question", *_FIRST), ("sentence", *_SECOND), ("label",),
        Columns(1, 2, LAST), Columns(1, 2, None),
    ),
    Task("rte", _ENTAILMENT, _FIRST, _SECOND, ("label",), Columns(1, 2, LAST), Columns(1, 2, None)),
    Task("wnli", _BINARY, _FIRST, _SECOND, ("label",), Columns(1, 2, LAST), Columns(1, 2, None)),
    Task("sts-b", (), _FIRST, _SECOND, ("score", "label", "similarity"), Columns(7, 8, 9), Columns(7, 8, None)),
    Task("tnews", _TNEWS, _ONE, (), ("label",), Columns(3, None, 1), Columns(3, None, None)),
)  # fmt: skip

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TASKS})
_ALIASES = {"sst2": "sst-2", "stsb": "sts-b"}


def task_named(name: str, labels: Sequence[str] = ()) -> Task:
    """A task by name, in any case. labels: of a task like it, in place of its own.

    Raises: UsageError for an unknown name, for labels that repeat, for labels of a regression.
    """
    known = _ALIASES.get(name.lower(), name.lower())
    if known not in TASKS:
        raise UsageError(f"{name}: wanted a task among {', '.join(TASKS)}")
    task = TASKS[known]
    if not labels:
        return task
    if len(set(labels)) < len(labels) or not all(labels):
        raise UsageError(f"--labels: wanted different names, got {','.join(labels)}")
    if task.regression:
        raise UsageError(f"--labels: {task.name} is a regression and has none")
    return Task(task.name, tuple(labels), task.a, task.b, task.label, task.plain, task.plain_test)


def split_of(path: Path, asked: str | None) -> Split:
    """Train, dev or test: as asked, or by the file's name; train if that does not tell.

    Raises: UsageError if another split is asked for.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for split in splits:
        if asked == split:
            return split
    if asked is not None:
        raise UsageError(f"--split: wanted train, dev or test, got {asked}")
    stem = path.stem.lower()
    if stem.startswith("valid"):
        return "dev"
    return next((split for split in splits if split in stem), "train")


def headed(path: Path, task: Task, split: Split, fields: Sequence[str]) -> Columns | None:
    """The columns by a header line or by the keys of a JSON object; None if it is no header of this task.

    Raises: FormatError for a header that lacks a column, naming those it has.
    """
    names = [field.strip().strip('"').lower() for field in fields]
    a, b, label = (
        next((names.index(n) for n in wanted if n in names), None) for wanted in (task.a, task.b, task.label)
    )
    if a is None or (task.b and b is None):
        if a is None and b is None and label is None:
            return None
        missing = task.a if a is None else task.b
        raise FormatError(path, "header", f"wanted a column {' or '.join(missing)}, got {', '.join(fields)}")
    if label is None and split != "test":
        raise FormatError(path, "header", f"wanted a column {' or '.join(task.label)}, got {', '.join(fields)}")
    if split == "test":
        label = None  # the originals give every row of a test set the first label
    if label is not None and label == len(names) - 1:
        label = LAST  # as the originals read it: a tab too many in another column does not move it
    return Columns(a, b, label, len(names))

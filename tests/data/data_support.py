"""What the tests of data share."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from porting.data.reading import examples

GOLDEN = Path(__file__).parent.parent / "golden" / "data"
VOCAB = GOLDEN / "vocab.txt"
FEATURES = ("input_ids", "input_mask", "segment_ids", "label_ids", "is_real_example")

Arrays = dict[str, np.ndarray[Any, Any]]


def golden(prefix: str) -> Arrays:
    """Arrays of the originals, by feature, in the order in which the scripts write them."""
    with np.load(GOLDEN / "features.npz", allow_pickle=False) as arrays:
        return {name.rpartition("/")[2]: arrays[name] for name in arrays.files if name.startswith(prefix + "/")}


def stacked(path: Path) -> Arrays:
    """A record file as arrays; every record must have the same features in the same order."""
    records = list(examples(path))
    names = list(records[0])
    assert all(list(record) == names for record in records)
    return {name: np.stack([np.asarray(record[name]) for record in records]) for name in names}


def same(ours: Arrays, theirs: Arrays) -> None:
    """Equal features: names, order, dtypes, values."""
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)


def rows(path: Path, lines: Sequence[Sequence[str]]) -> Path:
    """A tab-separated file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join("\t".join(line) + "\n" for line in lines).encode())
    return path


def account(path: Path) -> dict[str, Any]:
    """The account beside a record file."""
    value = json.loads(path.with_name(path.name + ".port.json").read_text())
    assert isinstance(value, dict)
    return value


def real_text() -> Iterator[str]:
    """Docstrings of the standard library: names, numbers, quotation marks, paths."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from (ast.get_docstring(node) or "").split("\n\n")


TEXTS = list(islice(real_text(), 1500))
ODD = [
    "Ünïcödé naïve ẞ",
    "中文字 mixed文 and 日本",
    "a\tb\r\nc\u3000d",
    "it's -- 3.14!",
    "[SEP] is text",
    "",
    " ",
    "e\u0301é",
]

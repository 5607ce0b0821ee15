"""L0 through the converter: the weights of every model in every dialect of its family, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import porting
from porting.convert.convert import convert
from porting.errors import MismatchError, PortError
from porting.parity.stored import stored
from porting.testing.suite.choice import Case, Choice
from porting.testing.suite.evidence import Evidence

Array = np.ndarray[Any, np.dtype[Any]]

NO_PLACE = "has no place for it"
"""The converter's word for values that a dialect cannot hold: fairseq's RoBERTa has no token types."""


def test_dialect(
    parity_choice: Choice, parity_evidence: Evidence, parity_case: Case, parity_dialect: str, tmp_path: Path
) -> None:
    """Bit for bit the same after the way there and back; what a dialect has no place for is named."""
    subject = parity_choice.subject(parity_case)
    try:
        source = parity_evidence.weights(parity_case)
    except PortError as error:
        pytest.fail(str(error), pytrace=False)
    # Only what chooses between rows: sizes are those of one net, and a distillation holds two.
    settings = {name: value for name, value in subject.config.items() if isinstance(value, bool)}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    family, there = subject.spec.family, tmp_path / "there.safetensors"
    try:
        ledger = convert(source, there, to=parity_dialect, family=family, config=tmp_path / "config.json")
    except MismatchError as error:
        if NO_PLACE not in str(error):
            raise
        pytest.skip(f"NOT_RUN: {error.problems[0]}")
    before = {name: entry.read() for name, entry in porting.read(source).items()}
    back = stored(there, subject.spec, subject.configured(), parity_case.task)
    lost = before.keys() - back.keys() - {line["name"] for line in ledger.dropped}
    assert not lost, "lost without a reason"
    assert back.keys() <= before.keys(), "made up"
    assert back, "nothing came back"
    assert [name for name in back if not np.array_equal(back[name], before[name])] == []

"""L0 through the converter: the weights of every model in every dialect of its family, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import porting
from porting.convert.convert import convert
from porting.errors import PortError
from porting.parity.stored import stored
from porting.testing.suite.choice import Case, Choice
from porting.testing.suite.evidence import Evidence


def test_dialect(
    parity_choice: Choice, parity_evidence: Evidence, parity_case: Case, parity_dialect: str, tmp_path: Path
) -> None:
    """Bit for bit the same after the way there and back; what a dialect has no place for is named."""
    subject = parity_choice.subject(parity_case)
    try:
        source = parity_evidence.weights(parity_case)
    except PortError as error:
        pytest.fail(str(error), pytrace=False)
    (tmp_path / "config.json").write_text(json.dumps(subject.config), encoding="utf-8")
    there = tmp_path / "there.safetensors"
    ledger = convert(source, there, to=parity_dialect, family=subject.spec.family, config=tmp_path / "config.json")
    back = stored(there, subject.spec, subject.configured())
    before = porting.read(source)
    dropped = {line.name for line in ledger.dropped}
    assert {name for name in before if name not in back} <= dropped, "lost without a reason"
    assert back.keys() <= before.keys(), "made up"
    different = [name for name in back if not np.array_equal(back[name], before[name].read())]
    assert different == []
    assert back, "nothing came back"

"""Batches that no model could take are refused by name, before a framework sees them."""

from __future__ import annotations

import numpy as np
import pytest
from toy_port import spec as toy

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting.model.spec import Feature, Task

BUILD = Build("classify", labels=3)


def _with(**changes):
    return {**toy.batch(), **changes}


def test_a_good_batch_passes_with_and_without_labels():
    check_batch(toy.TOY, toy.ToyConfig(), BUILD, toy.batch())
    plain = {name: value for name, value in toy.batch().items() if name != "label_ids"}
    assert check_batch(toy.TOY, toy.ToyConfig(), BUILD, plain) is None


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (_with(mask=np.ones(3)), "no feature mask; there are input_ids, segment_ids, label_ids"),
        (_with(input_ids=np.full((3, 5), 11)), r"input_ids\[0, 0\] is 11, wanted 0 to 10 \(vocab_size is 11\)"),
        (_with(input_ids=np.full((3, 5), -1)), r"input_ids\[0, 0\] is -1, wanted 0 to 10"),
        (_with(label_ids=np.array([0, 1, 3])), r"label_ids\[2\] is 3, wanted 0 to 2 \(labels is 3\)"),
        (_with(input_ids=np.zeros((3, 5), np.float32)), "input_ids: wanted int32, got float32"),
        (_with(input_ids=np.zeros(5, np.int32)), r"input_ids: wanted axes \(batch seq\), got shape \(5,\)"),
        (_with(segment_ids=np.zeros((3, 4), np.int32)), "segment_ids: seq is 4, input_ids has 5"),
        (_with(input_ids=np.zeros((0, 5), np.int32)), "segment_ids: batch is 3, input_ids has 0"),
        ({"segment_ids": np.zeros((1, 2), np.int32)}, r"input_ids \(batch seq\) is missing"),
        (
            {name: np.zeros((3, 9), np.int32) for name in ("input_ids", "segment_ids")},
            "input_ids: seq is 9, the model takes 8 at most",
        ),
        (
            {name: np.zeros((0, 2), np.int32) for name in ("input_ids", "segment_ids")},
            r"input_ids: shape \(0, 2\) holds nothing",
        ),
    ],
)
def test_what_does_not_fit_is_named(batch, said):
    with pytest.raises(UsageError, match=f"^toy classify: {said}"):
        check_batch(toy.TOY, toy.ToyConfig(), BUILD, batch)


def test_positions_are_bounded_by_the_length_of_this_batch_and_digits_are_sizes():
    from dataclasses import replace

    spec = replace(
        toy.TOY,
        tasks=(Task("point", ("input_ids", "position", "pair"), ()),),
        features=(
            *toy.TOY.features,
            Feature("position", "batch", "int32", below="seq"),
            Feature("pair", "2", "float32"),
        ),
    )
    build = Build("point")
    batch = {"input_ids": toy.batch()["input_ids"], "position": np.array([0, 4, 1]), "pair": np.zeros(2, np.int8)}
    check_batch(spec, toy.ToyConfig(), build, batch)
    with pytest.raises(UsageError, match=r"position\[1\] is 5, wanted 0 to 4 \(seq is 5\)"):
        check_batch(spec, toy.ToyConfig(), build, {**batch, "position": np.array([0, 5, 1])})
    with pytest.raises(UsageError, match="pair: 2 is 3, the spec has 2"):
        check_batch(spec, toy.ToyConfig(), build, {**batch, "pair": np.zeros(3)})

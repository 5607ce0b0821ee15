"""On a batch of the user's own: what cannot show there is said, and what does the same is one class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from all_plants import PLANTS
from planted import planted
from sides import Source, Subject, opened

pytestmark = pytest.mark.torch

MASKS = {"mask_value", "mask_form", "mask_unused"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A batch as most are: nothing padded, all of one segment."""
    folder = tmp_path_factory.mktemp("own")
    batch = dict(Source(Subject("bert", "classification"), folder).batch)
    batch |= {"input_mask": np.ones_like(batch["input_mask"]), "segment_ids": np.zeros_like(batch["segment_ids"])}
    np.savez(folder / "batch.npz", **batch)
    return Source(Subject("bert", "classification", batch=str(folder / "batch.npz")), folder)


def _plant(mistake):
    return next(plant for plant in PLANTS if plant.model == "bert" and plant.chief and plant.accepted[0] == mistake)


def test_what_cannot_show_is_listed(plain):
    found = plain.diagnosed(opened(plain.what), detectable=True)
    assert found.agrees
    assert {"mask_value", "mask_form"} <= set(found.undetectable)
    assert not {"epsilon", "query_key_swapped", "softmax_scale", "decay_on_all", "warmup_shifted"} & {
        *found.undetectable
    }


@pytest.mark.parametrize("mistake", ["mask_value", "mask_form"])
def test_a_listed_mistake_does_not_show(plain, room, mistake):
    with planted(_replaced(_plant(mistake), plain), room) as net:
        assert plain.diagnosed(net()).agrees


def test_one_that_shows_is_named(plain, room):
    with planted(_replaced(_plant("epsilon"), plain), room) as net:
        assert plain.diagnosed(net()).names[:1] == ("epsilon",)


def _replaced(plant, source):
    """The same plant, run on the batch of a source."""
    return replace(plant, batch=source.what.batch)


def test_what_does_the_same_is_one_class(room):
    """Scores that saturate at -65504 and a mask that puts -65504 in their place are the same numbers."""
    plant = next(plant for plant in PLANTS if plant.accepted[0] == "saturation")
    source = Source(plant.subject, room)
    with planted(plant, room) as net:
        first = source.diagnosed(net()).explanations[0]
    assert {"saturation", "mask_form"} <= {first.mistake, *first.alike}


def test_on_the_probe_everything_shows(room):
    """But what no data shows: see docs/probe.md."""
    source = Source(Subject("bert", "classification"), room)
    found = source.diagnosed(opened(source.what), detectable=True)
    assert found.agrees
    assert set(found.undetectable) <= {"saturation"}

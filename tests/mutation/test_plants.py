"""Every mistake of the catalogue, planted in the ports' sources, is caught and named; the page of them is theirs."""

from __future__ import annotations

import pytest
import table
from all_plants import ALL, PLANTS, SOME, family
from judged import judged, source_of
from planted import planted

from porting.parity.catalogue import names

QUICK = ("epsilon", "query_key_swapped", "mask_value", "dropout_on", "clip_per_tensor")
"""Those that run by default, the plainest way to make each, in PyTorch: the whole set takes many minutes."""

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def _marked(plant):
    marks = [] if plant.framework == "torch" else [getattr(pytest.mark, plant.framework)]
    if plant.framework != "torch" or not plant.chief or plant.accepted[0] not in QUICK:
        marks.append(pytest.mark.slow)
    return pytest.param(plant, id=plant.name, marks=marks)


@pytest.mark.parametrize("plant", [_marked(plant) for plant in PLANTS])
def test_a_planted_mistake_is_caught_and_named(plant, room):
    pytest.importorskip(plant.framework)
    found = judged(plant, room)
    assert found.state in ("FAIL", "UNMATCHED", "CRASHED")
    assert found.level == (plant.seen or plant.level)
    assert str(found.diagnosis.first.level) == plant.level
    if plant.unnamed:
        assert not found.named, f"it is named now: {plant.unnamed}"
    else:
        assert found.named, found.diagnosis.to_json()


@pytest.mark.parametrize("model", ["bert", "tinybert", "xlnet"])
def test_all_mistakes_are_planted_and_nine_of_ten_must_be_named(model):
    own = [plant for plant in PLANTS if family(plant) == model and plant.framework == "torch"]
    planted_ = {name for plant in own for name in plant.accepted}
    assert planted_ >= {*ALL, *(name for name, models in SOME.items() if model in models)}
    assert planted_ <= set(names())
    assert sum(not plant.unnamed for plant in own) >= 0.9 * len(own)


def test_plants_have_names_of_their_own():
    known = [plant.name for plant in PLANTS]
    assert sorted(known) == sorted(set(known))


def test_an_empty_catalogue_names_nothing(room):
    plant = next(plant for plant in PLANTS if plant.chief and plant.accepted[0] == "epsilon")
    source = source_of(plant.subject, room)
    with planted(plant, room) as net:
        found = source.diagnosed(net(), catalogue=())
    assert not found.explanations
    assert found.unexplained.what == "embeddings"


def test_the_page_is_that_of_the_plants():
    """That it says what happens is the slow tests' business; this is that no row is missing or stale."""
    text = table.PAGE.read_text(encoding="utf-8")
    assert text.startswith(table.HEAD)
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == len("mhlpfn") + 1]
    shown = [tuple(part.strip() for part in row.strip("|").split("|"))[:2] for row in rows]
    wanted = [tuple(part.strip() for part in table.cell(plant).split("|")) for plant in PLANTS]
    assert sorted(cells for cells in shown if cells[0] in names()) == sorted(wanted)
    assert "PASS" not in text

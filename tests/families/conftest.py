from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import TensorEntry
from porting.convert.match import Match, find
from porting.convert.registry import families
from porting.convert.sizes import bind
from porting.convert.zeros import Zeros

GOLDEN = Path(__file__).parents[1] / "golden"
Shapes = Mapping[str, tuple[int, ...]]


@pytest.fixture(scope="session")
def golden():
    return GOLDEN


def _zeros(name: str, shape: tuple[int, ...]) -> TensorEntry:
    dtype = DTYPES["int64" if name.endswith("position_ids") else "float32"]
    return TensorEntry(name, shape, dtype, Zeros(shape, dtype))


@pytest.fixture
def understood() -> Callable[..., Match]:
    """Match names and shapes, and demand that every name is one row's and every size agrees."""

    def understand(shapes: Shapes, **narrow: str) -> Match:
        match = find(tuple(shapes), families(), sizes=shapes, **narrow)
        assert match.unknown == ()
        entries = {name: _zeros(name, shape) for name, shape in shapes.items()}
        for model in match.models:
            assert bind(model, entries).problems == ()
        named = [name for model in match.models for found in model.found.values() for name in found.names.values()]
        slots = [name for roles in match.slots.roles.values() for name in roles.values()]
        every = [*named, *slots, *match.slots.scalars.values(), *match.slots.orphans]
        assert sorted(every) == sorted(shapes)
        return match

    return understand

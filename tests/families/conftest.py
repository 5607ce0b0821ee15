import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.registry import read
from porting.convert.find import find
from porting.convert.match import Match
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


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def identical():
    """Do two checkpoints hold the same names, shapes, types and bytes?"""

    def compare(one, two):
        one, two = read(one), read(two)
        assert set(one) == set(two)
        for name in one:
            assert one[name].shape == two[name].shape, name
            assert one[name].dtype == two[name].dtype, name
            assert np.asarray(one[name].read()).tobytes() == np.asarray(two[name].read()).tobytes(), name

    return compare


@pytest.fixture(scope="session")
def near(golden):
    """How closely a case's outputs have to agree, as numpy's arguments."""

    def bounds(case):
        manifest = json.loads((golden / case / "manifest.json").read_text())
        return {"rtol": 0, "atol": manifest["suggested_tolerances"]["forward_abs"]}

    return bounds


@pytest.fixture(scope="session")
def load():
    """A transformers model with the tensors of a file, all of them but those named, ties aside."""

    def fill(model, file, *, unexpected=()):
        from safetensors.torch import load_file

        result = model.load_state_dict(load_file(file), strict=False)
        assert set(result.missing_keys) <= set(model._tied_weights_keys or {})
        assert set(result.unexpected_keys) == set(unexpected)
        model.tie_weights()
        return model.eval()

    return fill

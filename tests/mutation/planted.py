"""Plants mistakes: copies a port's modules into a package of their own, edits their text, and runs that in its place.

Nothing of the catalogue is used here: a plant is what somebody would have written in the port itself.
"""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from porting.backends.protocol import Build
from porting.model.recipe import LossScale, Schedule
from porting.model.registry import models
from porting.parity.diagnose import diagnose
from porting.parity.observe import observe, taps_of
from porting.parity.probe import probe_batch, probe_recipe, probe_weights
from porting.parity.variation import Case
from porting.testing.tiny import tiny

COPIED = {
    "torch": (
        "porting_bert.torch_layers",
        "porting_bert.torch_backbone",
        "porting_bert.torch_heads",
        "porting_bert.torch",
        "porting_tinybert.torch",
        "porting_xlnet.torch_layers",
        "porting_xlnet.torch_transformer",
        "porting_xlnet.torch_heads",
        "porting_xlnet.torch",
        "porting.backends.torch.recipe",
        "porting.backends.torch.run",
        "porting.backends.training",
        "porting.model.update",
        "porting.model.schedule",
    ),
}

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Plant:
    """A mistake planted in a port's source.

    mistake: its name in the catalogue; several where another is right as well. model, task: where it is tried.
    module: whose text is edited. edits: texts to what stands in their place; each must be there exactly once.
    level: at which it must show. config: changes of the tiny config. also: edits of other modules.
    """

    mistake: str | tuple[str, ...]
    model: str
    task: str
    module: str
    edits: Mapping[str, str]
    level: str = "L2"
    note: str = ""
    config: tuple[tuple[str, object], ...] = ()
    also: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def accepted(self):
        return (self.mistake,) if isinstance(self.mistake, str) else self.mistake

    @property
    def name(self):
        return f"{self.model}-{self.task}-{self.accepted[0]}" + (f"-{self.note}" if self.note else "")


def source_of(module):
    return Path(find_spec(module).origin).read_text()


def edited(text, edits):
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    return text


@contextmanager
def planted(plant, folder, framework="torch"):
    """A package that holds the port with the mistake: its name, importable while the context lasts."""
    package = f"planted_{next(_NUMBERS)}"
    place = folder / package
    place.mkdir()
    (place / "__init__.py").write_text("")
    copied = {module: module.replace(".", "__") for module in COPIED[framework]}
    hit = False
    for module, name in copied.items():
        text = source_of(module)
        if module == plant.module:
            text, hit = edited(text, plant.edits), True
        if module in plant.also:
            text = edited(text, plant.also[module])
        for other, file in copied.items():
            text = re.sub(rf"\bfrom {re.escape(other)} import", f"from {package}.{file} import", text)
        own = f"porting_{'bert' if plant.model == 'roberta' else plant.model}.{framework}"
        (place / f"{framework if module == own else name}.py").write_text(text)
    assert hit, f"{plant.module} is not copied"
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        yield package
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]


@cache
def case_of(model, task, config=(), seed=0):
    """A tiny model of a task with the probe's weights and batch, and what the source shows of it."""
    from porting.backends.torch.run import open_session

    spec = models()[model]
    made, build = tiny(spec, **dict(config)), Build(task, labels=1 if task == "regression" else 3)
    session = open_session(spec, made, build)
    weights = probe_weights(spec, made, build, session.parameters, spec.dialects["pytorch"], seed=seed)
    batch = probe_batch(spec, made, build, seed=seed)
    session.load(weights)
    recipe = replace(probe_recipe(spec), schedule=Schedule("bert", 1e-3, 20, 4), loss_scale=LossScale("static", 1024.0))
    case = Case(spec, made, build, weights, batch, taps_of(session, spec, made, batch), recipe)
    return case, observe(open_session(spec, made, build, recipe), case, weights, None)


def diagnosed(plant, folder, **options):
    """What the diagnosis says of a plant."""
    case, source = case_of(plant.model, plant.task, plant.config)
    with planted(plant, folder) as package:
        run = importlib.import_module(f"{package}.porting__backends__torch__run")
        spec = replace(case.spec, package=package)
        session = run.open_session(spec, case.config, case.build, case.recipe)
        target = observe(session, case, case.weights, source.free)
    return diagnose(case, source, target, detectable=False, **options)


def same(one, two):
    return all(np.array_equal(one[name], two[name]) for name in one)

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
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sides import Subject, opened

PACKAGES = ("porting_bert", "porting_tinybert", "porting_xlnet")
SHARED = ("porting.backends.training", "porting.model.update", "porting.model.schedule")

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Plant:
    """A mistake planted in a port's source.

    mistake: its name in the catalogue; several where another says the same. task: where it is tried. note: which of the
    ways to make it this is. module: whose text is edited. edits: texts to what stands in their place; each must be
    there exactly once. also: edits of other modules. level: at which it must show first. config: changes of the tiny
    config. seen: the level at which the comparison sees it first, if another: its floor is of free runs. chief: of the
    ways of its mistake the plainest. batch: a file in the probe's place. unnamed: why the diagnosis
    cannot name it, if it cannot.
    """

    mistake: str | tuple[str, ...]
    note: str
    model: str
    task: str
    module: str
    edits: Mapping[str, str]
    level: str = "L2"
    seen: str = ""
    also: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config: tuple[tuple[str, object], ...] = ()
    framework: str = "torch"
    chief: bool = False
    batch: str | None = None
    unnamed: str = ""

    @property
    def accepted(self):
        return (self.mistake,) if isinstance(self.mistake, str) else self.mistake

    @property
    def subject(self):
        return Subject(self.model, self.task, self.config, batch=self.batch)

    @property
    def name(self):
        return f"{self.framework}-{self.model}-{self.task}-{self.accepted[0]}-{self.note}".replace(" ", "_")


def made(model, task, rows, framework="torch", **common):
    """Plants of one model and task. rows: mistake, note, module, edits, and what else a plant has, if anything."""
    return tuple(
        Plant(mistake, note, model, task, module, edits, framework=framework, **common, **(rest[0] if rest else {}))
        for mistake, note, module, edits, *rest in rows
    )


@cache
def copied(framework):
    """The modules that a plant copies, and their names in its package."""
    found = [f"porting.backends.{framework}.{name}" for name in ("run", "recipe")]
    for package in PACKAGES:
        folder = Path(find_spec(package).origin).parent
        found += [f"{package}.{path.stem}" for path in sorted(folder.glob(f"{framework}*.py"))]
    return {module: module.replace(".", "__") for module in (*found, *SHARED)}


@cache
def source_of(module):
    return Path(find_spec(module).origin).read_text(encoding="utf-8")


def edited(text, edits):
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    return text


@contextmanager
def planted(plant, folder):
    """A net of the port with the mistake, which lives while the context lasts."""
    package, names = f"planted_{next(_NUMBERS)}", copied(plant.framework)
    place = folder / package
    place.mkdir()
    (place / "__init__.py").write_text("")
    edits = {plant.module: plant.edits, **plant.also}
    assert edits.keys() <= names.keys(), f"not copied: {edits.keys() - names.keys()}"
    own = f"porting_{'bert' if plant.model == 'roberta' else plant.model}.{plant.framework}"
    for module, name in names.items():
        text = edited(source_of(module), edits.get(module, {}))
        for other, file in names.items():
            text = re.sub(rf"\bfrom {re.escape(other)} import", f"from {package}.{file} import", text)
        (place / f"{plant.framework if module == own else name}.py").write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        run = importlib.import_module(f"{package}.porting__backends__{plant.framework}__run")
        yield lambda: opened(plant.subject, plant.framework, run=run, package=package)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]

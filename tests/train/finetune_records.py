"""Small record files of a task that can be learnt, and configs of small models, for tests of fine-tuning."""

from __future__ import annotations

import json
import random

from porting.data.layout import Layout
from porting.data.packed import pack
from porting.data.records import Encoder
from porting.data.schema import account_path, to_json
from porting.model.registry import model_named
from porting.testing.tiny import tiny

LENGTH, VOCABULARY = 12, 50


def write_records(folder, name="train", *, style="bert", count=24, regression=False, padding=0, account=None):
    """Records whose label the first of two words tells, with schema and, if asked for, an account. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(name)
    layout = Layout(style, LENGTH, cls=2, sep=3)
    encoder = Encoder(layout, regression=regression)
    framed = []
    for number in range(count):
        words = [draw.randrange(7, VOCABULARY) for _ in range(draw.randint(2, 7))]
        words.insert(draw.randrange(len(words)), 5 + number % 2)
        label = float(number % 4) if regression else number % 2
        framed.append(encoder.tfrecord(layout.lay(pack(words)), label))
    framed += [encoder.tfrecord(encoder.padding(), 0, real=False)] * padding
    path = folder / f"{name}.tfrecord"
    path.write_bytes(b"".join(framed))
    (folder / "schema.json").write_text(to_json(layout.schema(regression=regression)))
    if account is not None:
        account_path(path).write_text(json.dumps(account))
    return path


def write_config(folder, model, **changes):
    """The config of a small model. Returns the file."""
    path = folder / f"{model}.json"
    path.write_text(json.dumps(tiny(model_named(model), **changes).to_dict()))
    return path

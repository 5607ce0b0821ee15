"""Options of a training run from a file, and where weights begin that no checkpoint holds."""

from __future__ import annotations

import numpy as np
import pytest

from porting.errors import FormatError, UsageError
from porting.model.registry import model_named
from porting.testing.tiny import tiny
from porting.train.initial import initial_weights
from porting.train.options import merged, read_options, required


def test_toml_and_json_with_dashes_or_underscores(tmp_path):
    toml, json = tmp_path / "run.toml", tmp_path / "run.json"
    toml.write_text('batch-size = 32\nlearning_rate = 2e-5\ntrain = ["a", "b"]\n')
    json.write_text('{"batch_size": 32, "learning-rate": 2e-5, "train": ["a", "b"]}')
    wanted = {"batch_size": 32, "learning_rate": 2e-5, "train": ["a", "b"]}
    assert read_options(toml) == read_options(json) == wanted
    assert merged(wanted, {"batch_size": 8, "epochs": None}) == wanted | {"batch_size": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sise = 1", r"run\.toml: batch_sise: is no option; did you mean batch_size\?"),
        ("zzz = 1", r"zzz: is no option; there are backend, "),
        ("batch-size = 1\nbatch_size = 2", "batch_size: stands there twice"),
        ("[train]\nfiles = 1", "train: wanted a value, got a table"),
        ("batch_size = ", "wanted TOML, got"),
    ],
)
def test_what_is_no_option_is_told_by_name(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_options(path)


def test_files_that_are_none_and_options_that_are_missing(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("[1]")
    with pytest.raises(FormatError, match="wanted options by name, got list"):
        read_options(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_options(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="--model, --max-ckpt-num: wanted, as a flag or in the file of --config"):
        required({"model": "", "task": "cola"}, "model", "task", "max_ckpt_num")


def test_initial_weights_are_those_of_the_originals():
    spec = model_named("bert")
    shapes = {"a/kernel": (200, 100), "a/bias": (100,), "b/LayerNorm/gamma": (100,), "b/LayerNorm/beta": (100,)}
    found = initial_weights(tiny(spec), shapes, seed=1)
    kernel = found["a/kernel"]
    assert kernel.dtype == np.float32
    assert np.abs(kernel).max() <= 0.04
    # A normal cut at two deviations has 0.8796 of the deviation; 20000 values tell it to 0.5 %.
    assert kernel.std() == pytest.approx(0.02 * 0.8796, rel=0.02)
    assert abs(kernel.mean()) < 5e-4
    assert not found["a/bias"].any()
    assert not found["b/LayerNorm/beta"].any()
    assert np.all(found["b/LayerNorm/gamma"] == 1)
    one = initial_weights(tiny(spec), shapes, seed=1, only={"a/kernel"})
    assert list(one) == ["a/kernel"]
    assert np.array_equal(one["a/kernel"], kernel)
    assert not np.array_equal(initial_weights(tiny(spec), shapes, seed=2)["a/kernel"], kernel)

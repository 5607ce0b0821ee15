"""The options of `port distill`: one table for flags, config file and documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from porting.cli_distill import commands
from porting.errors import FormatError, UsageError
from porting.train.distill_options import OPTIONS, chosen, layers, options_of
from porting.train.distill_recipe import idle, recipe_for
from porting.train.options import flag

PAGE = Path(__file__).parents[2] / "docs" / "distill.md"


def test_the_page_has_every_option_with_its_meaning_and_default():
    rows = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    missing = [option.name for option in OPTIONS if option.help not in rows.get(option.name, "")]
    assert missing == []
    assert set(rows) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("command", ["general", "task"])
def test_the_help_has_every_option(command):
    shown = CliRunner().invoke(commands, [command, "--help"], terminal_width=200).output
    assert [one.name for one in options_of(command) if flag(one.name) not in shown] == []


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "gd.toml"
    path.write_text('epoch_size = 3\nlayer_map = [1, 3]\n"max-ckpt-num" = 4\ndo_shuffle = false\n')
    found = chosen("general", path, {"epoch_size": 7, "batch_size": None})
    assert (found["epoch_size"], found["max_ckpt_num"], found["do_shuffle"]) == (7, 4, False)
    assert layers("layer_map", found["layer_map"]) == (1, 3)
    assert found["data_sink_steps"] == 1
    assert found["given"] == {"epoch_size", "layer_map", "max_ckpt_num", "do_shuffle"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epoch_size": "x"}, "epoch_size: wanted a whole number, at least 1, got x"),
        ({"save_ckpt_step": -1}, "save_ckpt_step: wanted a whole number, at least 0, got -1"),
        ({"epoch_size": 1.5}, "epoch_size: wanted a whole number, at least 1, got 1.5"),
        ({"batch_size": True}, "batch_size: wanted a whole number, at least 1, got True"),
        ({"batch_size": 0}, "batch_size: wanted a whole number, at least 1, got 0"),
        ({"data_sink_steps": "0"}, "data_sink_steps: wanted a whole number, at least 1, got 0"),
        ({"do_shuffle": "yes"}, "do_shuffle: wanted true or false, got yes"),
        ({"device_target": "TPU"}, "device_target: wanted Ascend, GPU or CPU, got TPU"),
        ({"learning_rate": "nan"}, "learning_rate: wanted a number, at least 0, got nan"),
        ({"recipe": "adam"}, "recipe: wanted modelzoo or huawei, got adam"),
    ],
)
def test_values_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        chosen("general", None, flags)


def test_words_are_taken_in_any_case_and_names_of_another_command_are_not_known(tmp_path):
    assert chosen("general", None, {"device_target": "ascend"})["device_target"] == "Ascend"
    path = tmp_path / "gd.json"
    path.write_text(json.dumps({"td_phase1_epoch_size": 3}))
    with pytest.raises(FormatError, match="td_phase1_epoch_size: is no option"):
        chosen("general", path, {})
    with pytest.raises(UsageError, match=r"layer_map: wanted the teacher's layers from 0, as 2,5,8,11, got a"):
        layers("layer_map", "a")


IDLE = [
    ("general", {"enable_data_sink": True}, "enable_data_sink: torch is fed batch by batch and sinks nothing"),
    ("general", {"enable_data_sink": False, "data_sink_steps": 5}, "data_sink_steps: means nothing without"),
    ("general", {"recipe": "huawei", "power": 2}, "power: means nothing to BertAdam"),
    ("1", {"recipe": "huawei", "warmup_steps": 2}, "warmup_steps: means nothing in phase 1 of huawei"),
    ("general", {"scale_factor": 2}, "scale_factor: means nothing without a loss scale"),
    ("general", {"loss_scale": "static", "scale_window": 2}, "scale_window: means nothing to a static loss scale"),
    ("general", {"dataset_type": "mindrecord", "schema_dir": "x"}, "schema_dir: means nothing to MindRecord"),
    ("general", {"device_id": 3}, "device_id: the first visible device is taken"),
    ("1", {"phase": "1", "eval_steps": 3}, "eval_steps: is of phase 2"),
]


@pytest.mark.parametrize(("stage", "flags", "line"), IDLE, ids=[line.split(":")[0] for _, _, line in IDLE])
def test_an_option_without_a_meaning_says_so_in_one_line(stage, flags, line):
    options = chosen("general" if stage == "general" else "task", None, flags)
    (found,) = idle(options, stage, recipe_for(options, stage, 100, 10), "torch")
    assert found.startswith(line)
    plain = chosen("general" if stage == "general" else "task", None, {})
    assert list(idle(plain, stage, recipe_for(plain, stage, 100, 10), "torch")) == []


def test_recipes_are_those_of_the_two_originals():
    plain = chosen("task", None, {})
    modelzoo, huawei = (recipe_for(plain | {"recipe": kind}, "2", 50, 25) for kind in ("modelzoo", "huawei"))
    assert (modelzoo.name, modelzoo.schedule.peak, modelzoo.schedule.warmup) == ("tinybert_mindspore", 2e-5, 5)
    assert (modelzoo.weight_decay, modelzoo.unused, modelzoo.clip.kind) == (1e-4, "decayed", "per_tensor")
    assert (huawei.name, huawei.schedule.peak, huawei.schedule.warmup) == ("tinybert_bert_adam", 3e-5, 0.1)
    assert (huawei.weight_decay, huawei.unused, huawei.clip.epsilon) == (0.01, "kept", 1e-6)
    assert recipe_for(plain | {"recipe": "huawei"}, "1", 50, 25).schedule.kind == "constant"
    phase1 = recipe_for(plain, "1", 50, 25)
    assert (phase1.schedule.warmup, phase1.schedule.end) == (2, 1e-14)  # a tenth of an epoch
    half = recipe_for(plain | {"dtype": "float16"}, "2", 50, 25).loss_scale
    assert (half.kind, half.scale, half.factor, half.window) == ("dynamic", 65536.0, 2.0, 50)
    general = recipe_for(plain | {"dtype": "float16"}, "general", 50, 25).loss_scale
    assert (general.scale, general.window) == (65536.0, 1000)
    assert modelzoo.loss_scale.kind == "none"

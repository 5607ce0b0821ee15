"""Training runs on the disk: made by `port parity --steps`, gone on with, read again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from porting.acceptance.batches import POOL, batches_of
from porting.acceptance.command import compared_before, train_both
from porting.acceptance.runs import read_planted, read_runs
from porting.acceptance.train import Plan, Training, judged, training_recipe
from porting.acceptance.train_job import group_of
from porting.backends.found import installed
from porting.backends.names import BackendName
from porting.backends.process import Outcome
from porting.checkpoint.write import write
from porting.cli import app_for
from porting.errors import FormatError, UsageError
from porting.parity.prepare import content_hash
from porting.parity.side import Side
from porting.parity.state import Level, State
from porting.parity.subject import subject

STEPS = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of runs: two sides, a replica each, one other seed, a planted mistake."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("made")
    found = train(folder)
    assert (found.made, found.kept) == (11, 0)
    return folder


def train(folder, **changes):
    values = {"steps": STEPS, "replicas": 1, "seeds": 1, "plant": ["no_decay"], **changes}
    return train_both(subject("bert"), "torch:cpu", "torch:cpu", output=folder, **values)


class TestBatches:
    def test_they_depend_on_the_order_and_the_step_alone(self):
        one = subject("bert")
        first, again = batches_of(one, one.build(), 0), batches_of(one, one.build(), 0)
        hashes = [content_hash(first(step)) for step in range(3 * POOL)]
        assert hashes == [content_hash(again(step)) for step in range(3 * POOL)]
        assert len(set(hashes[:POOL])) == len(set(hashes)) == POOL
        other = batches_of(one, one.build(), 1)
        assert [content_hash(other(step)) for step in range(POOL)] != hashes[:POOL]

    def test_a_file_is_cut_into_batches_each_example_once_an_epoch(self, tmp_path):
        plain = subject("bert", task="classification", examples=12)
        whole = batches_of(plain, plain.build(), 0)(0)
        write(tmp_path / "data.safetensors", dict(whole), format="safetensors")
        one = subject("bert", task="classification", batch=tmp_path / "data.safetensors", examples=5)
        batch = batches_of(one, one.build(), 0)
        shown = np.concatenate([batch(step)["input_ids"] for step in (0, 1)])
        assert shown.shape == (10, 12)
        assert len({row.tobytes() for row in shown}) == 10
        assert content_hash(batch(0)) != content_hash(batch(2))

    def test_a_file_of_too_few_examples_is_refused(self, tmp_path):
        plain = subject("bert", task="classification", examples=3)
        write(tmp_path / "data.npz", dict(batches_of(plain, plain.build(), 0)(0)), format="npz")
        one = subject("bert", task="classification", batch=tmp_path / "data.npz", examples=5)
        with pytest.raises(UsageError, match="holds 3 examples, fewer than a batch of 5"):
            batches_of(one, one.build(), 0)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("bert/encoder/layer_11/output/dense/kernel", "layer.11"),
        ("bert/embeddings/word_embeddings", "bert/embeddings"),
        ("cls/seq_relationship/output_weights", "cls/seq_relationship"),
        ("loss", "loss"),
    ],
)
def test_layer_groups(name, group):
    assert group_of(name) == group


def test_the_probes_rate_rises_and_falls_over_the_run():
    schedule = training_recipe(subject("bert").spec, 300).schedule
    assert (schedule.steps, schedule.warmup) == (300, 30)


@pytest.mark.torch
class TestMade:
    def test_what_a_run_holds(self, made):
        source = read_runs(made / "runs" / "source")
        run = source.run
        assert {"loss", "grad_norm", "lr", "seconds", "grad_norm/layer.0", "grad_norm/bert/embeddings"} <= set(
            run.series
        )
        assert all(one.steps.tolist() == list(range(STEPS)) for one in run.series.values())
        groups = [one.values for name, one in run.series.items() if name.startswith("grad_norm/")]
        assert np.sqrt(np.square(groups).sum(axis=0)) == pytest.approx(run.series["grad_norm"].values, rel=1e-5)
        assert len(set(run.batches)) == STEPS
        assert run.dropout == "off"
        assert run.environment["precision"] == "float32"
        assert run.environment["batch_size"] == "5"
        assert (run.replica, run.seed) == (None, 0)
        assert all(one.hash.startswith("xxh3_128:") and one.size for one in run.inputs)

    def test_what_is_counted(self, made, tmp_path):
        runs = made / "runs"
        assert read_runs(runs / "target").run.counts == {"overflows": 0, "recompilations": 0, "cpu_fallbacks": 0}
        folder = tmp_path / "side"
        shutil.copytree(runs / "target", folder)
        (folder / "fallbacks.json").write_text("[\"CAUTION: The operator 'aten::x' is not currently supported\"]")
        assert read_runs(folder).run.counts["cpu_fallbacks"] == 1
        (folder / "fallbacks.json").unlink()
        assert "cpu_fallbacks" not in read_runs(folder).run.counts  # nobody counted them
        (folder / "fallbacks.json").write_text("{}")
        with pytest.raises(FormatError, match="wanted a list of lines"):
            read_runs(folder)

    def test_replicas_share_data_and_weights_and_seeds_the_weights_only(self, made):
        source, target = (read_runs(made / "runs" / side) for side in ("source", "target"))
        (replica,), (other,), (seed,) = source.replicas, target.replicas, source.seeds
        assert replica.batches == other.batches == source.run.batches != seed.batches
        assert len({one.weights for one in (source.run, target.run, replica, other, seed)}) == 1
        assert replica.replica != other.replica
        assert not np.array_equal(replica.series["loss"].values, source.run.series["loss"].values)
        assert replica.series["loss"].values == pytest.approx(source.run.series["loss"].values, rel=1e-4)
        assert seed.seed == 1

    def test_a_planted_mistake_is_another_training(self, made):
        planted = read_planted(made / "runs" / "planted")
        assert planted.keys() == read_planted(made / "runs").keys() == read_planted(made).keys()
        assert read_planted(made / "runs" / "source") == {}
        assert {name: len(found) for name, found in planted.items()} == {"no_decay": 6}
        source = read_runs(made / "runs" / "source").run
        one = planted["no_decay"][0].series["loss"].values
        assert one[0] == pytest.approx(source.series["loss"].values[0], rel=1e-6)
        assert any("planted: no_decay (weight decay 0)" in note for note in planted["no_decay"][0].notes)

    def test_judged_without_a_floor_it_is_conditional(self, made):
        found = judged(made / "runs")
        assert found.trajectory.state in (State.CONDITIONAL, State.NOT_RUN)
        assert found.speed.state is State.NOT_RUN
        kept = json.loads((made / "runs" / "trajectory.json").read_text())
        assert [one["level"] for one in kept["levels"]] == ["L5", "L6"]

    def test_after_an_interruption_only_what_is_missing_is_made(self, made, tmp_path):
        folder = tmp_path / "again"
        shutil.copytree(made, folder)
        runs = folder / "runs"
        shutil.rmtree(runs / "source" / "replica-1")
        (runs / "target" / "run" / "steps.jsonl").write_text("{}\n")  # cut short: no capture any more
        part = runs / "target" / ".replica-1.999999999.part"
        part.mkdir()
        before = (runs / "source" / "run" / "manifest.json").stat().st_mtime_ns
        found = train(folder)
        assert (found.made, found.kept) == (2, 9)
        assert (runs / "source" / "run" / "manifest.json").stat().st_mtime_ns == before
        again, first = (read_runs(one / "runs" / "source").replicas[0] for one in (folder, made))
        assert np.array_equal(again.series["loss"].values, first.series["loss"].values)

    def test_more_runs_may_be_added_and_another_plan_is_refused(self, made, tmp_path):
        folder = tmp_path / "other"
        shutil.copytree(made, folder)
        with pytest.raises(UsageError, match="begun with another source, target; --overwrite"):
            train(folder, steps=STEPS + 1)
        assert read_runs(folder / "runs" / "source").run.series["loss"].steps.size == STEPS


class TestRefused:
    def test_a_folder_of_other_things(self, tmp_path):
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "mine.txt").write_text("keep")
        with pytest.raises(UsageError, match="other things"):
            train(tmp_path)
        assert (tmp_path / "runs" / "mine.txt").read_text() == "keep"

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"steps": 0}, "--steps 0"),
            ({"limit": float("nan")}, "--max-ratio nan"),
            ({"replicas": -1}, "--replicas -1"),
            ({"plant": ["typo"]}, "--plant typo"),
        ],
    )
    def test_what_makes_no_sense(self, tmp_path, changes, told):
        with pytest.raises(UsageError, match=told):
            train(tmp_path, **changes)

    def test_what_holds_no_runs(self, tmp_path):
        with pytest.raises(FormatError, match="a folder with `run` in it"):
            read_runs(tmp_path)
        assert read_planted(tmp_path / "nothing") == {}


class TestPlan:
    def test_replicas_of_two_sides_have_no_permutation_in_common(self, tmp_path):
        side = Side(installed(BackendName.parse("torch:cpu")), subject("bert"), steps=2)
        half = replace(side, compute="float16")
        plan = Plan(side, half, replicas=5, seeds=2, planted=("no_decay",))
        wanted = list(plan.trainings(tmp_path))
        seeds = [one.replica for one in wanted if "replica-" in one.folder.name]
        assert len(seeds) == len(set(seeds)) == 10
        names = {str(one.folder.relative_to(tmp_path)) for one in wanted}
        assert {"source/run", "target/replica-5", "source/seed-2", "planted/no_decay-5", "target/shadow"} <= names
        assert {one.side.compute for one in wanted if "shadow" in one.folder.name} == {"float32"}
        plain = {str(one.folder.relative_to(tmp_path)) for one in Plan(side, side).trainings(tmp_path)}
        assert not any("shadow" in name for name in plain)


def test_what_was_compared_before_counts_for_speed(tmp_path):
    assert compared_before(tmp_path) == ()
    rows = [{"level": "L2", "state": "PASS", "compared": 3, "total": 3, "emulated": False}]
    (tmp_path / "comparison.json").write_text(json.dumps({"levels": rows}))
    (found,) = compared_before(tmp_path)
    assert (found.level, found.state) == (Level.FORWARD, State.PASS)
    (tmp_path / "comparison.json").write_text("[]")
    assert compared_before(tmp_path) == ()


@pytest.mark.torch
def test_the_command_shows_every_finding_and_its_exit_is_the_verdict(made, tmp_path):
    pytest.importorskip("torch")
    shutil.copytree(made, tmp_path / "cli")
    words = ["parity", "bert", "--target", "torch:cpu", "--steps", str(STEPS), "--replicas", "1"]
    result = CliRunner().invoke(app_for(words), [*words, "-o", str(tmp_path / "cli")])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("L5  ")
    assert any("precondition: data" in line and "PASS" in line for line in lines)
    assert lines[-1] == "0 runs made, 4 were there"


@pytest.mark.torch
def test_a_run_that_crashed_is_no_pass_and_is_made_anew(made, tmp_path):
    folder = tmp_path / "crashed"
    shutil.copytree(made, folder)
    side = Side(installed(BackendName.parse("torch:cpu")), subject("bert"))
    Training(side, folder / "runs" / "target" / "run").write_crash(Outcome("crashed", reason="killed by SIGSEGV"))
    found = judged(folder / "runs").trajectory
    assert found.state is State.CRASHED
    assert found.decisive.what == "target/run"
    assert found.decisive.reason == "killed by SIGSEGV"
    assert train(folder).made == 1
    assert judged(folder / "runs").trajectory.state is not State.CRASHED

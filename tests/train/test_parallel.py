"""Ranks without a framework and without a launcher: places, parts, shares, rank tables."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import numpy as np
import pytest
from descent_session import Descent

from porting.backends import feed, group
from porting.backends.group import ALONE, Team, World, gather, sum_joined
from porting.backends.names import BackendName
from porting.backends.protocol import Build, Counters
from porting.data.ranks import Device, rank_table, write_rank_table
from porting.errors import MismatchError, UsageError
from porting.model.dropout import Dropout
from porting.train.batches import Records, Shuffled
from porting.train.parallel import Part, meet, schedule, world
from porting.train.rank_place import check_place
from porting_bert.config import BertConfig
from porting_bert.spec import SPEC
from porting_xlnet.spec import SPEC as XLNET

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MSRUN = {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": "3", "RANK_ID": "3", "MS_WORKER_NUM": "8", "DEVICE_ID": "1"}


class Threads:
    """Sums over ranks that are threads of this process."""

    def __init__(self, size):
        self.rows, self.barrier = [None] * size, Barrier(size, timeout=10)

    def of(self, rank):
        return Rank(self, rank)


class Rank:
    """One of them (porting.backends.group.Collective)."""

    def __init__(self, all_, rank):
        self.all, self.rank = all_, rank

    def numbers(self, values):
        self.all.rows[self.rank] = values
        self.all.barrier.wait()
        total = np.sum(self.all.rows, axis=0, dtype=np.float32)
        self.all.barrier.wait()
        return total


class Line:
    """Of ranks that cannot end."""

    def waiting(self):
        return nullcontext()


def everywhere(work, size=2):
    """What `work(rank, team)` gives in each rank."""
    threads = Threads(size)

    def one(rank):
        place = World(rank, size, rank)
        return work(rank, Team(place, threads.of(rank), Line()))

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def test_a_place_is_read_from_what_either_launcher_says():
    assert world({}) == ALONE
    assert world(TORCHRUN) == world(MSRUN) == World(3, 8, 1)
    assert world({**MSRUN, "MS_ROLE": "MS_SCHED"}) == World(-1, 8, -1)
    assert [world(TORCHRUN | {"RANK": rank, "LOCAL_RANK": "0"}).leads for rank in "01"] == [True, False]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (TORCHRUN | {"RANK": "8"}, "RANK=8, WORLD_SIZE=8, LOCAL_RANK=1: is no place among the ranks"),
        (TORCHRUN | {"LOCAL_RANK": "4"}, "LOCAL_RANK=4: is no place"),
        (TORCHRUN | {"RANK": "first"}, "RANK: wanted a number, as the launcher sets it, got first"),
        ({name: text for name, text in MSRUN.items() if name != "DEVICE_ID"}, "DEVICE_ID: wanted a number.* nothing"),
        ({name: text for name, text in MSRUN.items() if name != "MS_NODE_ID"}, "--node_rank"),
    ],
)
def test_a_place_that_cannot_be_is_refused(variables, said):
    with pytest.raises(UsageError, match=said):
        world(variables)


def test_a_launcher_starts_its_own_framework_only(monkeypatch):
    assert meet(BackendName.parse("torch:cpu")) is None
    schedule()
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="backend mindspore:cpu: torchrun starts torch"):
        meet(BackendName.parse("mindspore:cpu"))
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    for name, value in MSRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="backend torch:cpu: msrun starts mindspore"):
        meet(BackendName.parse("torch:cpu"))


def test_the_scheduler_of_one_rank_has_nothing_to_do(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    monkeypatch.setenv("MS_WORKER_NUM", "1")
    for serve in (schedule, lambda: meet(BackendName.parse("mindspore:cpu"))):
        with pytest.raises(SystemExit) as ended:
            serve()
        assert ended.value.code == 0


def test_parts_are_the_whole_batch_in_its_order():
    whole = Shuffled(Records({"x": np.arange(22), "y": np.arange(44).reshape(22, 2)}, 22), 6, seed=3)
    parts = [Part(whole, World(rank, 3, rank)) for rank in range(3)]
    for epoch, number in ((0, 0), (1, 2)):
        wanted = whole.batch(epoch, number)
        for name, array in wanted.items():
            assert np.array_equal(np.concatenate([part.batch(epoch, number)[name] for part in parts]), array)
    assert {part.per_epoch for part in parts} == {3}
    with pytest.raises(UsageError, match="x: 6 examples are not shared evenly by 4 ranks"):
        Part(whole, World(0, 4, 0)).batch(0, 0)


def test_masks_of_parts_are_those_of_the_whole_batch():
    config = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    build = Build("classification", dropout=Dropout("shared", 3))
    ids = np.ones((4, 5), np.int32)
    whole = feed.masks(SPEC, config, build, {"input_ids": ids}, 7)
    halves = [feed.masks(SPEC, config, build, {"input_ids": ids[:2]}, 7, World(rank, 2, rank)) for rank in range(2)]
    assert whole.keys() == halves[0].keys()
    for name, mask in whole.items():
        assert np.array_equal(np.concatenate([half[name] for half in halves]), mask)


def test_shares_follow_what_is_labelled():
    labels = np.full((2, 4, 5), -100)
    labels[0, 0, :3], labels[1, :, 0] = 1, 0
    weights = np.zeros((2, 4, 5), np.float32)
    weights[0] = 0.25

    def shares(rank, team):
        batches = (("mlm", {"token_labels": labels[rank]}), ("pretraining", {"masked_lm_weights": weights[rank]}))
        found = [team.shares(SPEC.task(task), batch) for task, batch in batches]
        return *found, team.shares(SPEC.task("classification"), {"label_ids": labels[rank, 0]})

    (first, words, even), (second, none, _) = everywhere(shares)
    assert (first["loss"], second["loss"]) == pytest.approx((3 / 7, 4 / 7))
    assert words == pytest.approx({"mlm.loss": 1.0, "nsp.loss": 0.5})
    assert none == pytest.approx({"mlm.loss": 2e-6, "nsp.loss": 0.5}, rel=1e-4)
    assert even == {"loss": 0.5}


def test_a_part_without_labels_counts_nothing_and_breaks_nothing():
    labels = np.full((2, 2, 3), -100)
    labels[1, 0, 0] = 4
    assert everywhere(lambda rank, team: team.shares(SPEC.task("mlm"), {"token_labels": labels[rank]})) == [
        {"loss": 1.0},
        {"loss": 1.0},
    ]


def test_a_part_whose_loss_is_not_defined_is_refused():
    def share(rank, team):
        try:
            return team.shares(XLNET.task("pretraining"), {"target_mask": np.full((1, 3), float(rank), np.float32)})
        except UsageError as error:
            return str(error)

    refused, whole = everywhere(share)
    assert refused == "target_mask: nothing in the part of rank 0 counts: a larger batch"
    assert whole == {"loss": 1.0}
    assert everywhere(lambda _, team: team.shares(XLNET.task("pretraining"), {})) == [{"loss": 0.5}] * 2


def test_every_rank_hears_what_each_says():
    said = everywhere(lambda rank, team: gather(team.collective, team.world, f"rank {rank} é".encode()), 3)
    assert said == [[f"rank {rank} é".encode() for rank in range(3)]] * 3


@pytest.mark.parametrize(("room", "calls"), [(1, 4), (4, 3), (100, 1)])
def test_tensors_that_are_summed_together_come_apart_in_their_shapes(monkeypatch, room, calls):
    monkeypatch.setattr(group, "JOINED", room)
    tensors = [np.arange(1.0), np.arange(3.0), np.arange(6.0).reshape(2, 3), np.ones((1, 2))]
    asked = []

    def twice(several):
        asked.append(len(several))
        return 2 * np.concatenate([tensor.reshape(-1) for tensor in several])

    found = sum_joined(tensors, np.size, twice)
    assert len(asked) == calls
    for one, other in zip(tensors, found, strict=True):
        np.testing.assert_array_equal(2 * one, other, strict=True)


@pytest.mark.parametrize("differing", ["weights", "steps made", "shapes of the batch", None])
def test_ranks_that_do_not_stand_at_one_place_are_refused_on_all(differing):
    def begin(rank, team):
        session, batch = Descent(), {"x": np.zeros(3 if rank and differing == "shapes of the batch" else 4)}
        if rank == 1 and differing == "weights":
            session.w[0] += 1e-7
        if rank == 1 and differing == "steps made":
            session.now = Counters(3)
        try:
            team.agree(session, batch)
        except UsageError as error:
            return str(error)
        return None

    found = everywhere(begin)
    assert found[0] == found[1]
    if differing is None:
        assert found[0] is None
    else:
        assert found[0].startswith(f"rank 1 does not stand where rank 0 does: it has other {differing};")


def table(folder, server="127.0.0.1", numbers=(0, 1), form="1.0"):
    folder.mkdir(exist_ok=True)
    devices = [Device(server, number, f"192.168.100.{number + 1}") for number in numbers]
    return write_rank_table(rank_table(form, devices), folder / "table.json")


@pytest.mark.parametrize("form", ["1.0", "old"])
def test_a_rank_table_of_this_world_is_taken(tmp_path, form):
    path = table(tmp_path, form=form)
    for rank in range(2):
        check_place(path, World(rank, 2, rank), {"LOCAL_WORLD_SIZE": "2"})
    other = table(tmp_path / "chosen", numbers=(4, 6))
    check_place(other, World(1, 2, 1), {"ASCEND_RT_VISIBLE_DEVICES": "4,6"})


def test_a_rank_table_of_another_world_is_refused_with_all_that_differs(tmp_path):
    path = table(tmp_path, server="192.0.2.7", numbers=(0, 2))
    with pytest.raises(MismatchError) as refused:
        check_place(path, World(1, 4, 1), {"LOCAL_WORLD_SIZE": "4"})
    assert refused.value.problems == (
        "ranks: it has 2, the launcher started 4",
        "rank 1: is on server 192.0.2.7, which is not this machine",
        "rank 1: has device 2 there, the launcher gave it 1",
        "server 192.0.2.7: has 2 ranks there, the launcher started 4 here",
    )


def test_the_table_that_the_environment_names_is_read(tmp_path, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK_TABLE_FILE", str(table(tmp_path)))
    with pytest.raises(MismatchError, match="is not the rank table of this run"):
        meet(BackendName.parse("torch:cpu"))
    (tmp_path / "table.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(MismatchError, match="is no rank table that HCCL takes"):
        meet(BackendName.parse("torch:cpu"))

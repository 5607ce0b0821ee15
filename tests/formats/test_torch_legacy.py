"""PyTorch's format before 1.6, as torch still writes it on request."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.torch import FORMAT
from porting.checkpoint.torch.tree import decode
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import Arrays, FormatConformance, random_bits, same_bits

pytest.importorskip("torch")
import torch

DTYPES = sorted(FORMAT.writes)


def old(value, path: Path) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


class TestLegacy(FormatConformance):
    format = "torch-legacy"

    def dtypes(self) -> list[str]:
        return DTYPES

    def make(self, folder: Path, tensors: Arrays) -> Path:
        held = {
            name: torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)
            .view(getattr(torch, array.dtype.name))
            .reshape(array.shape)
            for name, array in tensors.items()
        }
        return old(held, folder / "made.bin")


def test_views_and_ties(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    checkpoint = read(old({"a": base, "t": base.t(), "again": base.view(3, 4), "s": base[1, 1:]}, tmp_path / "v.bin"))
    assert np.array_equal(checkpoint["t"].read(), base.t().numpy())
    assert np.array_equal(checkpoint["s"].read(), base[1, 1:].numpy())
    assert checkpoint["again"].tied == "a"


def test_an_optimizer(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = read(old(optimizer.state_dict(), tmp_path / "o.pt"))
    assert decode(checkpoint.metadata["tree"])["param_groups"][0]["params"] == [0, 1]
    assert same_bits(checkpoint["state.1.exp_avg"].read(), optimizer.state_dict()["state"][1]["exp_avg"].numpy())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_checkpoint_is_refused(tmp_path):
    old(torch.nn.Linear(2, 2), tmp_path / "module.bin")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"w": [1.0, 2.0]}))
    good = old({"w": torch.ones(3)}, tmp_path / "good.bin").read_bytes()
    (tmp_path / "short.bin").write_bytes(good[:-1])
    (tmp_path / "long.bin").write_bytes(good + b"\0")
    (tmp_path / "count.bin").write_bytes(good[:-20] + b"\x04" + good[-19:])
    for name, problem in (
        ("module.bin", "whole module"),
        ("plain.pkl", "is a plain pickle"),
        ("short.bin", "wanted 12 bytes"),
        ("long.bin", "1 bytes are left"),
        ("count.bin", "wanted 3 elements, got 4"),
    ):
        with pytest.raises(FormatError, match=problem):
            read(tmp_path / name)


def test_it_is_only_read(tmp_path):
    with pytest.raises(UsageError, match="read only"):
        write(tmp_path / "x.bin", {"w": random_bits("float32", (2,))}, format="torch-legacy")

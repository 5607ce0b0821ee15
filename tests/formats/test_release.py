"""A large output's memory is given back while it is written, part by part, as long as the disk keeps up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.checkpoint import output, release
from porting.checkpoint.format import Extent, Layout
from porting.checkpoint.output import Output
from porting.checkpoint.release import AGAIN, Release
from porting.checkpoint.stream import begin, by_threads

FIFTH = 1000


class Clock:
    """Files that are never on the disk in less than `takes` seconds a call, and what they were told."""

    def __init__(self, takes: float = 0.0) -> None:
        self.now = 0.0
        self.takes = takes
        self.told: list[Extent] = []

    def release(self, file: int, offset: int, nbytes: int) -> None:
        self.now += self.takes
        self.told.append(Extent(file, offset, nbytes))


def laid(sizes: list[int]) -> Layout:
    return Layout(("a",), {f"{i}": (Extent(0, sum(sizes[:i]), size),) for i, size in enumerate(sizes)})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 5,000 bytes, where parts have 100."""
    monkeypatch.setattr(release, "memory", lambda: 5 * FIFTH)
    monkeypatch.setattr(release, "PART", 100)


@given(st.lists(st.integers(0, 300), max_size=40))
def test_every_tensor_is_in_one_part_in_order(sizes: list[int]) -> None:
    """Of a hundred bytes or one tensor more, except the last; of an output that fits, there is one part."""
    layout = laid(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "memory", lambda: 5 * FIFTH)
        patch.setattr(release, "PART", 100)
        parts = [list(part) for part in Release(Clock(), layout).parts(layout.extents)]
    assert [name for part in parts for name in part] == list(layout.extents)
    if layout.nbytes > FIFTH:
        assert all(sum(map(layout.size, part)) >= 100 > sum(map(layout.size, part[:-1])) for part in parts[:-1])
    else:
        assert len(parts) == bool(sizes)


@pytest.mark.usefixtures("small")
def test_names_are_asked_for_one_by_one() -> None:
    """Another process takes the next one meanwhile."""
    asked: list[str] = []
    layout = laid([60] * 40)

    def names():
        for name in layout.extents:
            asked.append(name)
            yield name

    for part in Release(Clock(), layout).parts(names()):
        for name in part:
            assert asked[-1] == name


@pytest.mark.usefixtures("small")
def test_a_part_is_given_back_at_once_and_again_later() -> None:
    layout, files = laid([100] * 30), Clock()
    releasing = Release(files, layout)
    for part in releasing.parts(layout.extents):
        before = len(files.told)
        names = list(part)
        assert len(files.told) == before
        releasing.done(names)
        assert files.told[before] == layout.extents[names[0]][0]
    counts = [files.told.count(runs[0]) for runs in layout.extents.values()]
    assert counts == [1 + min(AGAIN, 29 - i) for i in range(30)]


@pytest.mark.usefixtures("small")
def test_a_large_output_is_filled_in_the_order_of_the_file_another_by_size() -> None:
    extents = {"b": (Extent(1, 0, 300),), "a": (Extent(0, 100, 100),), "c": (Extent(0, 0, 20), Extent(0, 200, 80))}
    assert release.order(Layout(("x", "y"), extents)) == ["b", "a", "c"]
    extents["d"] = (Extent(1, 300, 600),)
    assert release.order(Layout(("x", "y"), extents)) == ["c", "a", "b", "d"]


@pytest.mark.usefixtures("small")
def test_nothing_of_an_output_that_fits_is_given_back() -> None:
    layout, files = laid([100] * 10), Clock()
    releasing = Release(files, layout)
    for part in releasing.parts(layout.extents):
        releasing.done(list(part))
    assert files.told == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("takes", "stops"), [(0.0, False), (0.01, False), (0.3, True)])
def test_a_slow_disk_is_left_to_the_system(takes: float, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs half a second and one call at most, and then a quarter of the time; afterwards all is one part."""
    files = Clock(takes)
    monkeypatch.setattr(release.time, "monotonic", lambda: files.now)
    layout = laid([100] * 200)
    releasing, parts = Release(files, layout), 0
    for part in releasing.parts(layout.extents):
        parts += 1
        for _ in part:
            files.now += 0.1 if takes == 0.3 else 1.0
        releasing.done([str(parts - 1)])
    assert (parts < 200) == stops
    assert not stops or len(files.told) < 6


def test_a_file_system_that_refuses_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: int) -> None:
        raise OSError(errno.EINVAL, "no advice")

    with Output(tmp_path, ["a"]) as opened:
        opened.write(0, 0, b"abc")
        monkeypatch.setattr(os, "posix_fadvise", refuses)
        opened.release(0, 0, 3)
        monkeypatch.delattr(os, "posix_fadvise")
        opened.release(0, 0, 3)
        opened.commit()
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_what_is_given_back_can_be_read(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with Output(tmp_path, ["a"]) as opened:
        opened.write(0, 0, data)
        for _ in range(3):
            output.release(opened.fds[0], 0, len(data))
        into = bytearray(len(data))
        assert opened.read(0, 0, memoryview(into)) == len(data)
    assert into == data


def test_two_tensors_in_one_place_are_a_bug(tmp_path: Path) -> None:
    extents = {"x": (Extent(0, 0, 8),), "y": (Extent(0, 8, 4), Extent(0, 4, 4))}
    with Output(tmp_path, ["a"]) as opened, pytest.raises(AssertionError, match="two tensors in one place"):
        begin(opened, Layout(("a",), extents))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_names(threads: int) -> None:
    found = by_threads(list, map(str, range(1000)), threads)
    assert len(found) == threads
    assert sorted(int(name) for part in found for name in part) == list(range(1000))
    assert all(part == sorted(part, key=int) for part in found)


def test_after_a_failure_no_thread_gets_another_name() -> None:
    done: list[str] = []

    def work(names):
        for name in names:
            if name == "3":
                raise ValueError(name)
            done.append(name)

    endless = (str(i) for i in range(10**9))
    with pytest.raises(ValueError, match="3"):
        by_threads(work, endless, 4)
    assert {"0", "1", "2"} <= set(done)

"""Strided views in row-major order: by the compiled kernel and by numpy, against numpy's own transposes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from itertools import permutations
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.checkpoint import strided
from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.storage import Mapped, MappedFile, contiguous_strides
from porting.checkpoint.strided import strided_pieces
from porting.errors import FormatError

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {1: "uint8", 2: "bfloat16", 4: "float32", 8: "float64", 16: "complex128"}

needs_kernel = pytest.mark.skipif(strided.kernel is None, reason="installed without a C compiler")
KERNELS = [pytest.param("compiled", marks=needs_kernel), "numpy"]


@pytest.fixture(params=KERNELS)
def kernel(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(strided, "kernel", None)
    return str(request.param)


def lying_in(path: Path, shape: tuple[int, ...], width: int, before: int = 0) -> tuple[Mapped, np.ndarray[Any, Any]]:
    """A row-major tensor behind so many bytes of a file, and its elements as raw values."""
    values = np.random.default_rng(prod(shape) + width).integers(0, 256, prod(shape) * width, np.uint8)
    path.write_bytes(bytes(before) + values.tobytes() + b"\xff")
    elements = values.view(f"V{width}").reshape(shape)
    return Mapped(MappedFile(path), before, shape, DTYPES[WIDTHS[width]]), elements


def joined(view: Mapped, **options: int) -> bytes:
    return b"".join(bytes(piece) for piece in strided_pieces(view, **options))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 2), (3, 5), (16, 16), (7, 300), (300, 7), (257, 1025), (1030, 258), (512, 512)], ids=str
)
def test_a_matrix_is_turned(tmp_path, kernel, shape, width) -> None:
    view, values = lying_in(tmp_path / "a", shape, width, before=3)
    assert joined(view.permuted((1, 0)), at=5) == values.T.tobytes()


@pytest.mark.parametrize("axes", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("piece", [64, 5000, 1 << 20])
def test_axes_in_any_order_and_any_pieces(tmp_path, kernel, axes, piece) -> None:
    view, values = lying_in(tmp_path / "a", (9, 20, 33), 4)
    assert joined(view.permuted(axes), piece=piece) == values.transpose(axes).tobytes()


@pytest.mark.parametrize("name", KERNELS)
@given(data=st.data())
def test_any_box_of_any_view(tmp_path_factory, name: str, data: Any) -> None:
    width = data.draw(st.sampled_from(list(WIDTHS)))
    shape = tuple(data.draw(st.lists(st.integers(1, 24), max_size=4)))
    axes = data.draw(st.permutations(range(len(shape))))
    view, values = lying_in(tmp_path_factory.mktemp("view") / "a", shape, width, data.draw(st.integers(0, 9)))
    box = []
    for size in (shape[axis] for axis in axes):
        start = data.draw(st.integers(0, size - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, size))))
    part = view.permuted(axes).part(box)
    with pytest.MonkeyPatch.context() as patch:
        if name == "numpy":
            patch.setattr(strided, "kernel", None)
        got = joined(part, piece=data.draw(st.sampled_from([1, 100, 10_000])), at=data.draw(st.integers(0, 5000)))
    assert got == values.transpose(axes)[tuple(box)].tobytes()
    assert got == b"".join(bytes(one) for one in storage_pieces(part, part.shape, width))


def test_a_large_tensor_is_turned_in_bands_that_are_given_back(tmp_path, kernel, monkeypatch) -> None:
    monkeypatch.setattr(strided, "HELD", 1 << 16)
    given_back = []
    release = MappedFile.release
    monkeypatch.setattr(MappedFile, "release", lambda self, *where: given_back.append(where) or release(self, *where))
    view, values = lying_in(tmp_path / "a", (6, 130, 210), 4)
    for axes in ((2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 2, 1)):
        del given_back[:]
        assert joined(view.permuted(axes), piece=1 << 12) == values.transpose(axes).tobytes()
        assert len(given_back) >= values.nbytes // (1 << 16)


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 3, 40, 50), (4, 16, 300)], ids=str)
def test_no_band_spans_much_more_than_what_may_be_held(tmp_path, monkeypatch, shape) -> None:
    monkeypatch.setattr(strided, "HELD", 2048)
    view, _ = lying_in(tmp_path / "a", shape, 4)
    for axes in permutations(range(len(shape))):
        turned = view.permuted(axes)
        boxes = list(strided.bands(turned.shape, turned.steps))
        assert all(turned.part(box).extent <= 2 * 2048 for box in boxes)
        assert sum(prod(one.stop - one.start for one in box) for box in boxes) == prod(shape)


def test_a_file_that_was_cut_since_is_an_error_and_no_signal(tmp_path, kernel) -> None:
    view, _ = lying_in(tmp_path / "a", (512, 512), 4)
    pieces = strided_pieces(view.permuted((1, 0)), piece=1 << 16)
    next(pieces)
    with (tmp_path / "a").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(FormatError, match="the file was cut and has 4096"):
        next(pieces)


def test_what_is_row_major(tmp_path) -> None:
    view, _ = lying_in(tmp_path / "a", (4, 1, 6), 4)
    assert view.row_major
    assert view.permuted((1, 0, 2)).row_major
    assert view.part([slice(1, 3)]).row_major
    assert not view.permuted((2, 1, 0)).row_major
    assert not view.part([slice(0, 4), slice(0, 1), slice(0, 5)]).row_major
    assert view.part([slice(0, 4), slice(0, 1), slice(0, 5)]).extent == 4 * (3 * 6 + 5)


@needs_kernel
class TestKernel:
    def copy(self, target=64, to=(0, (16, 4)), source=64, of=(0, (4, 16)), shape=(4, 4), width=4, scratch=None):
        out, data = bytearray(target), bytes(range(source))
        room = bytearray(strided.kernel.SCRATCH if scratch is None else scratch)
        strided.kernel.copy(out, *to, data, *of, shape, width, room)
        return bytes(out)

    def test_it_turns(self) -> None:
        assert self.copy() == np.arange(64, dtype=np.uint8).view(np.uint32).reshape(4, 4).T.tobytes()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"target": 63}, {"source": 63}, {"to": (1, (16, 4))}, {"of": (1, (4, 16))}, {"to": (-1, (16, 4))},
            {"of": (-1, (4, 16))}, {"to": (48, (-16, 4))}, {"of": (48, (4, -16))}, {"shape": (5, 4)},
            {"shape": (2**62, 4)}, {"shape": (4, 2**63 - 1)}, {"shape": (-4, 4)}, {"shape": (2**64, 4)},
            {"of": (0, (2**62, 16))}, {"of": (2**63 - 1, (4, 16))}, {"to": (0, (2**63 - 1, 4))}, {"width": 3},
            {"width": 0}, {"width": -4}, {"shape": (4, 4, 4)}, {"to": (0, (16,))}, {"of": (0, ())},
            {"scratch": 1000}, {"shape": (1,) * 33, "to": (0, (4,) * 33), "of": (0, (4,) * 33)},
            {"shape": (4, "4")}, {"to": (0, [16, 4])}, {"to": (0, (0, 4))}, {"to": (0, (16, 0))},
            {"shape": (), "of": (2**63 - 1, ()), "to": (0, ())}, {"shape": (), "of": (0, ()), "to": (2**63 - 1, ())},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, wrong) -> None:
        with pytest.raises((ValueError, OverflowError, TypeError)):
            self.copy(**wrong)

    def test_a_run_that_is_spaced_out_or_drawn_together(self) -> None:
        assert self.copy(target=20, source=12, to=(0, (8,)), of=(0, (4,)), shape=(3,)) == bytes(
            [0, 1, 2, 3, 0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0, 8, 9, 10, 11]
        )
        assert self.copy(target=8, source=12, to=(0, (4,)), of=(0, (8,)), shape=(2,)) == bytes(
            [0, 1, 2, 3, 8, 9, 10, 11]
        )

    @pytest.mark.parametrize("wrong", [{}, {"width": 3}, {"shape": "4"}, {"to": (-1, (4,))}], ids=str)
    def test_the_buffers_are_let_go(self, wrong) -> None:
        buffers = [bytearray(16), bytearray(16), bytearray(strided.kernel.SCRATCH)]
        given = {"to": (0, (4,)), "of": (0, (4,)), "shape": (4,), "width": 4} | wrong
        with suppress(ValueError, TypeError):
            strided.kernel.copy(
                buffers[0], *given["to"], buffers[1], *given["of"], given["shape"], given["width"], buffers[2]
            )
        for one in buffers:
            one.append(1)  # BufferError while anybody holds it

    def test_nothing_is_copied_of_an_empty_box(self) -> None:
        assert self.copy(target=0, source=0, shape=(0, 4)) == b""

    def test_a_target_that_is_read_only_is_refused(self) -> None:
        with pytest.raises((BufferError, TypeError)):
            strided.kernel.copy(bytes(4), 0, (), bytes(4), 0, (), (), 4, bytearray(strided.kernel.SCRATCH))

    @given(data=st.data())
    def test_any_strides_on_both_sides(self, data: Any) -> None:
        width = data.draw(st.sampled_from(list(WIDTHS)))
        shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=4)))
        sides = []
        for _ in range(2):
            order = data.draw(st.permutations(range(len(shape))))
            whole = [shape[axis] + data.draw(st.integers(0, 3)) for axis in order]
            apart = width + data.draw(st.integers(0, 5))
            steps = dict(zip(order, contiguous_strides(whole, apart), strict=True))
            offset = data.draw(st.integers(0, 9))
            sides.append((prod(whole) * apart + offset, offset, tuple(steps[axis] for axis in range(len(shape)))))
        (room, at, to), (size, start, of) = sides
        source = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
        got, wanted = bytearray(room), bytearray(room)
        strided.kernel.copy(got, at, to, source, start, of, shape, width, bytearray(strided.kernel.SCRATCH))
        carrier = f"V{width}"
        view: Any = np.ndarray(shape, carrier, buffer=wanted, offset=at, strides=to)
        view[...] = np.ndarray(shape, carrier, buffer=source, offset=start, strides=of)
        assert got == wanted


def hook(tmp_path: Path) -> tuple[Any, list[str]]:
    """The build hook for a tree with no kernel in it, and what it warns of."""
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import Kernel
    finally:
        sys.path.remove(str(ROOT))
    (tmp_path / "porting/checkpoint").mkdir(parents=True)
    (tmp_path / "porting/checkpoint/_strided.c").write_bytes((ROOT / "porting/checkpoint/_strided.c").read_bytes())
    said: list[str] = []
    app = SimpleNamespace(display_warning=said.append)
    return Kernel(str(tmp_path), {}, None, None, str(tmp_path), "wheel", app), said  # type: ignore[arg-type]


@needs_kernel
def test_the_build_compiles_the_kernel_for_every_later_python(tmp_path) -> None:
    build, said = hook(tmp_path)
    data: dict[str, Any] = {"pure_python": True, "artifacts": []}
    build.initialize("standard", data)
    assert said == []
    assert data["tag"].startswith("cp311-abi3-")
    assert data["artifacts"] == ["/porting/checkpoint/_strided.abi3.so"]
    assert sorted(path.name for path in (tmp_path / "porting/checkpoint").iterdir()) == [
        "_strided.abi3.so",
        "_strided.c",
    ]
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import _strided
out = bytearray(6)
_strided.copy(out, 0, (3, 1), b"abcdef", 0, (1, 2), (2, 3), 1, bytearray(_strided.SCRATCH))
print(out.decode())
"""
    where = str(tmp_path / "porting/checkpoint")
    ran = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=True)
    assert ran.stdout == "acebdf\n"


def test_without_a_compiler_the_build_says_so_and_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    build, said = hook(tmp_path)
    (tmp_path / "porting/checkpoint/_strided.abi3.so").write_bytes(b"an older one")
    data: dict[str, Any] = {"pure_python": True, "artifacts": []}
    build.initialize("standard", data)
    assert len(said) == 1
    assert "_strided.c was not compiled" in said[0]
    assert data == {"pure_python": True, "artifacts": []}
    assert [path.name for path in (tmp_path / "porting/checkpoint").iterdir()] == ["_strided.c"]

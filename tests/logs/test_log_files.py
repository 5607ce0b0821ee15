"""Whatever a log is packed in and however it is damaged: what is there is read, the rest is said."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porting.errors import FormatError
from porting.logs.read import read_log, read_logs
from porting.logs.source import BLOCK, LONGEST, Source

LINE = "INFO:tensorflow:loss = {}, step = {} (22.301 sec)\n"
STEPS, LOSSES = [0, 100, 200], [2.5, 2.25, 2.125]
TEXT = "".join(LINE.format(loss, step) for step, loss in zip(STEPS, LOSSES, strict=True))


def loss(found) -> tuple[list[int], list[float]]:
    return found.series["loss"].steps.tolist(), found.series["loss"].values.tolist()


PACKED = {
    "plain": TEXT.encode(),
    "without a last end": TEXT.rstrip("\n").encode(),
    "crlf": TEXT.replace("\n", "\r\n").encode(),
    "cr": TEXT.replace("\n", "\r").encode(),
    "utf-8 with a mark": TEXT.encode("utf-8-sig"),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16 big": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "utf-16 crlf": TEXT.replace("\n", "\r\n").encode("utf-16"),
    "gzip": gzip.compress(TEXT.encode()),
    "gzip of utf-16": gzip.compress(TEXT.encode("utf-16")),
    "two gzip members": gzip.compress(TEXT[:40].encode()) + gzip.compress(TEXT[40:].encode()),
    "gzip and padding": gzip.compress(TEXT.encode()) + bytes(512),
    "binary between": b"\x00\xff\xfe\x80" * 5000 + b"\n" + TEXT.encode() + bytes(range(256)),
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["train.log", "train.csv", "train.gz", "trainer_state.json", "no suffix"])
def test_a_log_is_found_by_content(read, packing, name):
    assert loss(read(PACKED[packing], name)) == (STEPS, LOSSES)


def test_blocks_do_not_cut_lines(read):
    count = 3 * BLOCK // 50
    text = "".join(LINE.format(f"{2 + step % 7 / 8:.3f}", step) for step in range(count))
    steps, values = loss(read(text))
    assert steps == list(range(count))
    assert values == [2 + step % 7 / 8 for step in range(count)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab\r\n", max_size=60), cut=st.integers(1, 9))
def test_blocks_give_the_text_with_one_kind_of_end(tmp_path, monkeypatch, text, cut):
    (tmp_path / "log").write_bytes(text.encode())
    monkeypatch.setattr("porting.logs.source.BLOCK", cut)
    with Source(tmp_path / "log") as source:
        blocks = list(source.blocks())
        assert all(block.endswith(b"\n") for block in blocks)
        wanted = text.replace("\r\n", "\n").replace("\r", "\n").encode()
        assert b"".join(blocks) + source.tail == wanted


class TestTail:
    def test_a_torn_line_is_left_out(self, read):
        found = read(TEXT + "INFO:tensorflow:loss = 2.1")
        assert loss(found) == (STEPS, LOSSES)
        assert "the last line is torn and was left out" in found.notes

    def test_a_torn_step_is_left_out(self, read):
        found = read(TEXT + "INFO:tensorflow:loss = 2.0, step = 30")
        assert loss(found) == (STEPS, LOSSES)
        assert "the last line is torn and was left out" in found.notes

    def test_a_torn_value_is_left_out(self, read):
        line = "epoch: 1 step: {}, loss is {}\n"
        found = read(line.format(100, 2.25) + line.format(200, 2.125) + "epoch: 1 step: 300, loss is 1.")
        assert loss(found) == ([100, 200], [2.25, 2.125])

    def test_a_whole_line_that_nothing_ends_counts(self, read):
        line = "epoch: 1 step: {}, loss is {}\n"
        found = read((line.format(100, 2.25) + line.format(200, 2.125)).rstrip("\n"))
        assert loss(found) == ([100, 200], [2.25, 2.125])
        assert "nothing ends the last line" in found.notes

    def test_a_torn_gzip_stream_is_read_so_far(self, tmp_path):
        text = "".join(LINE.format(f"{np.sin(step):.9f}", step) for step in range(20000))
        packed = gzip.compress(text.encode())
        (tmp_path / "log.gz").write_bytes(packed[: len(packed) // 2])
        found = read_log(tmp_path / "log.gz")
        assert 5000 < found.series["loss"].steps.size < 15000
        assert "the gzip stream ends early: what was there was read" in found.notes

    def test_a_damaged_gzip_stream_is_said(self, tmp_path):
        text = "".join(LINE.format(f"{np.sin(step):.9f}", step) for step in range(20000))
        packed = bytearray(gzip.compress(text.encode()))
        packed[len(packed) // 2 :] = np.random.default_rng(0).bytes(len(packed) - len(packed) // 2)
        (tmp_path / "log.gz").write_bytes(packed)
        assert any("gzip stream is damaged" in note for note in read_log(tmp_path / "log.gz").notes)


class TestRanks:
    @pytest.mark.parametrize("prefix", ["[1,{}]<stdout>:", "[rank{}]: ", "[default{}]:"])
    def test_ranks_are_told_apart(self, read_all, prefix):
        lines = [
            prefix.format(rank) + LINE.format(2.5 - rank / 4 - step / 1000, step) for step in STEPS for rank in (1, 0)
        ]
        runs = read_all("".join(lines))
        assert [run.name for run in runs] == ["train.log#rank0", "train.log#rank1"]
        assert loss(runs[1]) == (STEPS, [2.25, 2.15, 2.05])

    def test_the_lowest_rank_stands_for_all(self, read):
        lines = [f"[1,{rank}]<stdout>:" + LINE.format(2.5 - rank, step) for step in STEPS for rank in (1, 0)]
        found = read("".join(lines))
        assert loss(found)[1] == [2.5, 2.5, 2.5]
        assert found.notes[-1] == "of 2 runs (rank0, rank1) this is rank0"

    def test_one_rank_is_no_several(self, read_all):
        (run,) = read_all("".join("[rank0]: " + line for line in TEXT.splitlines(keepends=True)))
        assert run.name == "train.log"
        assert loss(run) == (STEPS, LOSSES)


class TestSteps:
    def log(self, *pairs: tuple[int, float]) -> str:
        return "".join(f"loss = {value}, step = {step}\n" for step, value in pairs)

    def test_training_taken_up_again_replaces_what_came_after_its_checkpoint(self, read):
        found = read(self.log((0, 5.0), (100, 4.0), (200, 3.0), (300, 2.0), (200, 3.5), (300, 2.5), (400, 1.5)))
        assert loss(found) == ([0, 100, 200, 300, 400], [5.0, 4.0, 3.5, 2.5, 1.5])
        assert "steps go back within a run: 2 values are replaced by later ones" in found.notes

    def test_steps_from_the_beginning_are_another_run(self, read_all, read):
        text = self.log((0, 5.0), (100, 4.0), (0, 6.0), (100, 3.0), (200, 2.0))
        runs = read_all(text)
        assert [run.name for run in runs] == ["train.log#1", "train.log#2"]
        assert [loss(run)[1] for run in runs] == [[5.0, 4.0], [6.0, 3.0, 2.0]]
        assert loss(read(text))[1] == [6.0, 3.0, 2.0]

    def test_steps_that_only_go_backwards_are_one_run(self, read_all):
        (run,) = read_all(self.log(*((1000 - n, float(n)) for n in range(200))))
        assert loss(run) == ([801], [199.0])
        assert any("199 times" in note for note in run.notes)

    def test_a_run_can_be_named(self, tmp_path):
        (tmp_path / "a.log").write_text(self.log((0, 5.0), (100, 4.0), (0, 6.0), (100, 3.0)))
        assert loss(read_log(f"{tmp_path}/a.log#1"))[1] == [5.0, 4.0]
        assert loss(read_log(tmp_path / "a.log", run="2"))[1] == [6.0, 3.0]
        assert len(read_logs(f"{tmp_path}/a.log#1")) == 1
        with pytest.raises(FormatError, match="has no run 3; there are 1, 2"):
            read_log(f"{tmp_path}/a.log#3")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=80))
    def test_steps_of_a_run_ascend_whatever_the_file_does(self, tmp_path, steps):
        (tmp_path / "log").write_text(self.log(*((step, float(n)) for n, step in enumerate(steps))))
        for run in read_logs(tmp_path / "log"):
            series = run.series["loss"]
            assert (np.diff(series.steps) > 0).all()
            assert set(series.steps.tolist()) <= set(steps)
            assert series.values.size == series.steps.size > 0


class TestHostile:
    @pytest.mark.parametrize("number", ["1e999", "-1e999", "nan", "inf", "-inf", "NaN"])
    def test_numbers_that_are_not_finite(self, read, number):
        found = read(TEXT + LINE.format(number, 300))
        assert found.series["loss"].steps.tolist() == [*STEPS, 300]
        assert not np.isfinite(found.series["loss"].values[-1])
        assert found.series["loss"].resolution > 0

    @pytest.mark.parametrize("number", ["-", "1.2.3", "e", "+-1", "9" * 41, "0x10", "1_0", "None"])
    def test_what_is_no_number_is_left_out(self, read, number):
        found = read(TEXT + LINE.format(number, 300) + LINE.format(2.0, 400))
        assert loss(found) == ([*STEPS, 400], [*LOSSES, 2.0])

    def test_a_step_beyond_all_integers_is_left_out(self, read):
        assert loss(read(LINE.format(1.0, "9" * 30) + TEXT)) == (STEPS, LOSSES)

    def test_markup_in_names_does_not_become_a_name(self, read):
        found = read(TEXT + "{'loss': 1.5, '<script>alert(1)</script>': 1.0, 'epoch': 1.0}\n")
        assert not any("<" in name for name in (*found.series, *found.metrics))

    @pytest.mark.parametrize("place", ["before", "between", "at the end"])
    def test_a_line_without_end_is_left_out(self, read, place):
        long = b"loss = 1, step = " + b"7" * (3 * LONGEST)
        half = TEXT.index("\n") + 1
        text = {
            "before": long + b"\n" + TEXT.encode(),
            "between": TEXT[:half].encode() + long + b"\n" + TEXT[half:].encode(),
            "at the end": TEXT.encode() + long,
        }[place]
        found = read(text)
        assert loss(found) == (STEPS, LOSSES)
        assert f"1 lines of more than {LONGEST} bytes were left out" in found.notes

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n\n\n", b"hello world\n", bytes(100000), b"a,b\n1,2\n", b"{}", b'{"log_history"', b"\x1f\x8b"],
    )
    def test_what_is_no_log_is_refused_in_one_line(self, read, content):
        with pytest.raises(FormatError) as error:
            read(content)
        assert "\n" not in str(error.value)

    def test_what_is_no_file(self, tmp_path):
        with pytest.raises(FormatError, match="does not exist"):
            read_log(tmp_path / "none.log")
        with pytest.raises(FormatError, match="is a folder"):
            read_log(tmp_path)

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damaged_lines_of_all_dialects_break_nothing(self, tmp_path, data):
        from porting.logs.dialects import DIALECTS

        examples = [dialect.example for dialect in DIALECTS]
        lines = data.draw(st.lists(st.sampled_from(examples), min_size=1, max_size=6))
        text = "\n".join(lines) + "\n"
        if number := data.draw(st.sampled_from(["", "1e999", "nan", "-1", "9" * 15, "1e-400", "-0.0", "9" * 400])):
            text = re.sub(r"\d+(?:\.\d+)?", lambda found: data.draw(st.sampled_from([number, found[0]])), text)
        raw = bytearray(text.encode())
        for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
            raw[place] = data.draw(st.integers(0, 255))
        (tmp_path / "log").write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
        try:
            runs = read_logs(tmp_path / "log")
        except FormatError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both ways out are right
            return
        for run in runs:
            for series in run.series.values():
                assert (np.diff(series.steps) > 0).all()

    def test_memory_stays_bounded(self, tmp_path):
        """A line of 300 MB, and as much of lines of no dialect, in a process that may not hold them."""
        with (tmp_path / "log").open("wb") as file:
            file.write(TEXT.encode())
            for _ in range(300):
                file.write(b"x" * 1_000_000)
            file.write(b"\n" + (b"nothing of interest here\n" * 40_000) * 300)
            file.write(LINE.format(2.0, 300).encode())
        code = (
            "import sys; from porting.logs.read import read_log; found = read_log(sys.argv[1]);"
            "assert found.series['loss'].steps.tolist() == [0, 100, 200, 300];"
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "log")], check=True, timeout=120, capture_output=True, text=True
        )
        assert int(ran.stdout) < 100_000  # KiB


def test_the_hash_is_of_the_bytes_on_the_disk(tmp_path):
    import xxhash

    for name, data in PACKED.items():
        file = tmp_path / "log"
        file.write_bytes(data)
        found = read_log(file)
        assert found.inputs[0].hash == f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}", name
        assert found.inputs[0].size == len(data)
        assert found.inputs[0].path == str(file)


def test_the_command(port, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(TEXT)
    ran = port("logs", str(tmp_path / "a.log"))
    assert ran.code == 0
    assert "loss" in ran.out
    assert "0..200" in ran.out
    ran = port("logs", str(tmp_path / "none.log"))
    assert ran.code == 2
    assert "does not exist" in ran.err


def test_the_command_as_json(port, tmp_path: Path) -> None:
    import json

    (tmp_path / "a.log").write_text(TEXT + LINE.format("nan", 300))
    ran = port("logs", str(tmp_path / "a.log"), "--json")
    (found,) = json.loads(ran.out)["runs"]
    assert found["series"]["loss"]["steps"] == [*STEPS, 300]
    assert found["series"]["loss"]["values"] == [*LOSSES, "nan"]

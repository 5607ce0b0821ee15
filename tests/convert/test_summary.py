"""A ledger in words, names collapsed, and options as values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import google_bert, save

from porting.convert.convert import convert
from porting.convert.names import allowed, collapse, grouped, listed, ranges
from porting.convert.summary import ledger_lines, parse_direction, parse_pairs, parse_size, summary
from porting.errors import UsageError


def test_a_conversion_in_words(tmp_path: Path) -> None:
    arrays = google_bert(groups=("pooler",)) | {f"x{i}": google_bert()["bert/pooler/dense/bias"] for i in "abcdefgh"}
    source = save(tmp_path / "a.npz", arrays, "npz")
    first, *lines = summary(convert(source, tmp_path / "out", to="hf", dtype="bfloat16", allow_unexpected=["x?"]))
    assert first == (
        f"bert: google -> hf  39 tensors, 1.54 k parameters, 3.07 kB, 39 cast float32 -> bfloat16, 13 transposed; "
        f"verified: {tmp_path}/out"
    )
    assert lines == [
        "  not in the source: mlm, nsp, classifier, squad",
        "  dropped: xa, xb, xc, xd, xe, xf and 2 more: allowed to be unexpected",
        "  left out, as allowed: xa, xb, xc, xd, xe, xf and 2 more",
    ]


def test_the_table_of_a_dry_run_has_a_line_per_row(tmp_path: Path) -> None:
    source = save(tmp_path / "a.npz", google_bert(layers=12), "npz")
    lines = ledger_lines(convert(source, to="hf", dry_run=True))
    assert len(lines) == 5 + 16 + 2 + 5 + 2
    assert len({line.index("float32") for line in lines}) == 1, "columns are aligned"
    assert all("layer_{0-11}" in line for line in lines if "layer" in line)


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["l.0.w", "l.1.w", "l.3.w", "l.2.b"], ["l.{0-1,3}.w", "l.2.b"]),
        (["n2.l.0.w", "n2.l.1.w"], ["n2.l.{0-1}.w"]),
        (["l.0.k.1", "l.0.k.2", "l.1.k.1"], ["l.{0-1}.k.1", "l.0.k.2"]),
        (["l.0.w", "l.0.w"], ["l.0.w"]),
        (["l.10.w", "l.9.w"], ["l.{9-10}.w"]),
        (["l." + "9" * 5000, "l." + "8" * 5000], ["l." + "9" * 5000, "l." + "8" * 5000]),
    ],
)
def test_collapsed(names: list[str], want: list[str]) -> None:
    assert collapse(names) == want


@given(st.lists(st.from_regex(r"[ab]?[0-9]{0,2}\.?[0-9]{0,2}", fullmatch=True), max_size=12))
def test_collapsing_loses_no_name(names: list[str]) -> None:
    found = grouped(names)
    members = [name for group in found.values() for name in group]
    assert sorted(members) == sorted(set(names))
    assert len(found) <= len(set(names))


def test_long_lists_are_cut() -> None:
    assert listed([chr(97 + i) for i in range(14)]) == "a, b, c, d, e, f, g, h, i, j, k, l and 2 more"
    assert ranges([3, 1, 2, 7]) == "1-3,7"
    assert allowed("a/b/c", ["a/*"])
    assert allowed("a[0]", ["a[0]"])
    assert not allowed("b", ["a", "c*"])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1", 1),
        ("1B", 1),
        ("10k", 10_000),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 GiB", 3 << 29),
        ("1TB", 10**12),
        (None, None),
    ],
)
def test_sizes(text: str | None, want: int | None) -> None:
    assert parse_size(text) == want


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "0.1", "1XB", "1e9", "1 2", "inf", "nan", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--shard-size"):
        parse_size(text)


def test_pairs_and_directions() -> None:
    assert parse_pairs(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}
    for bad in ("a", "=b", "a="):
        with pytest.raises(UsageError, match="KEY=VALUE"):
            parse_pairs([bad])
    assert parse_direction("pt2ms", None) == ("pytorch", "mindspore")
    assert parse_direction("pt2ms", "mindnlp") == ("pytorch", "mindnlp")
    assert parse_direction("any", "hf") == (None, "hf")
    for bad in ("", "2", "tf", "tf2", "TF2MS", "tf2ms2pt", "any2ms"):
        with pytest.raises(UsageError, match="direction"):
            parse_direction(bad, None)

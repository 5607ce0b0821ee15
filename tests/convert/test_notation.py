"""The notation of cells: what it reads, what it refuses, and that it refuses in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.convert.notation import Cell, Template
from porting.errors import TableError


def test_a_cell() -> None:
    cell = Cell.parse("layer.{layer}.{proj[query key]}.w | l{layer}/{proj[q k]} : (proj' out) hidden 1")
    assert [str(template) for template in cell.templates] == ["layer.{layer}.{proj}.w", "l{layer}/{proj}"]
    assert cell.axes == (("proj'", "out"), ("hidden",), ())
    assert cell.rank == 3
    assert cell.labels == ("proj'", "out", "hidden")
    assert cell.match("layer.10.key.w") == {"layer": "10", "proj": "key"}
    assert cell.match("l3/q") == {"layer": "3", "proj": "query"}, "words of an alias are those of the first spelling"
    assert str(Cell.parse("scale")) == "scale"


@pytest.mark.parametrize(
    "name",
    [
        "layer.01.key.w",
        "layer..key.w",
        "layer.1.keys.w",
        "layerX1.key.w",
        "layer.1.key.w\n",
        "layer.१.key.w",
        "x.layer.1.key.w",
    ],
)
def test_only_full_and_exact_names_match(name: str) -> None:
    assert Cell.parse("layer.{layer}.{proj[query key]}.w : a").match(name) is None


def test_free_fields_stop_at_separators() -> None:
    cell = Cell.parse("head_{task*}/w : a")
    assert cell.match("head_sts-b/w") == {"task": "sts-b"}
    assert cell.match("head_a/b/w") is None
    assert cell.match("head_a.b/w") is None
    assert cell.match("head_/w") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs a name"),
        (" : hidden", "needs a name"),
        ("w |  | v : hidden", "needs a name"),
        ("a{layer", "no field"),
        ("a{}b", "no field"),
        ("{1}", "no field"),
        ("{Layer}", "no field"),
        ("{lay er}", "no field"),
        ("{ñ}", "no field"),
        ("{p[a b}", "no field"),
        ("{a}.{a}", "a field occurs twice"),
        ("{a}{b}", "without a letter between"),
        ("{p[]}", "different words"),
        ("{p[q q]}", "different words"),
        ("w: hidden", "no spaces"),
        ("w x : hidden", "no spaces"),
        ("w : hidden hidden", "occurs twice"),
        ("w : (a b) a", "occurs twice"),
        ("w.{layer} : layer", "occurs twice"),
        ("a.{layer} | b : x", "the same fields"),
        ("{p[q k]} | {p[a b c]} : x", "the same fields"),
        ("w : Hidden", "not a label"),
        ("w : 2", "not a label"),
        ("w : (a", "not a label"),
        ("w : a)", "not a label"),
        ("w : ()", "not a label"),
        ("w : (a (b))", "not a label"),
        ("w : (1 a)", "not a label"),
        ("w : a,b", "not a label"),
        ("w : 'a", "not a label"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(TableError, match=why):
        Cell.parse(text)


PIECES = st.sampled_from(
    [
        "w",
        ".",
        "/",
        "{layer}",
        "{p[q k]}",
        "{t*}",
        " : ",
        " | ",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        " ",
        "'",
        "1",
        "a b",
        "Ω",
        "\n",
        "\0",
        "*",
        "\\",
        "|",
    ]
)


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join)))
def test_the_parser_raises_nothing_but_table_errors(text: str) -> None:
    try:
        cell = Cell.parse(text)
    except TableError:
        return
    assert cell.templates
    assert all(label not in {field.name for field in cell.fields} for label in cell.labels)
    for template in cell.templates:
        values = {f.name: f.words[0] if f.kind == "words" else "7" for f in template.fields}
        name = template.fill(values)
        assert template.match(name) == values
        assert cell.match(name) is not None


@given(st.text(max_size=30))
def test_letters_of_names_are_taken_literally(text: str) -> None:
    try:
        template = Template.parse(text)
    except TableError:
        return
    if not template.fields and text:
        assert template.match(text) == {}
        assert template.match(text + "x") is None
        assert template.match("x" + text) is None

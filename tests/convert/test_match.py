"""Which family and dialect names are, and which models a checkpoint holds."""

from __future__ import annotations

import pytest
from made import as_hf, as_modelzoo, google_bert

from porting.convert.find import find
from porting.convert.match import match_as, match_parted, part
from porting.convert.registry import families, family_named, target_dialect
from porting.convert.table import Dialect, Family, group, row, scope
from porting.errors import MismatchError, UsageError

NAMES = tuple(google_bert())


@pytest.mark.parametrize("dialect", ["google", "hf", "modelzoo"])
def test_found_by_names_alone(dialect: str) -> None:
    rule = {"google": dict, "hf": as_hf, "modelzoo": as_modelzoo}[dialect]
    match = find(tuple(rule(google_bert())), families())
    assert (match.family.name, match.dialect.name, match.unknown) == ("bert", dialect, ())
    assert match.claimed == len(NAMES)
    (model,) = match.models
    assert model.groups == ("backbone", "pooler", "mlm", "nsp")


def test_strangers_do_not_hide_the_family() -> None:
    match = find((*NAMES, "a", "b", "model/step"), families())
    assert match.family.name == "bert"
    assert match.unknown == ("a", "b", "model/step")


def test_narrowed_by_what_the_user_says() -> None:
    names = tuple(as_hf(google_bert()))
    assert find(names, families(), family="bert").dialect.name in {"hf", "mindnlp"}
    assert find(names, families(), framework="pytorch").dialect.name == "hf"
    assert find(NAMES, families(), dialect="google").dialect.name == "google"
    with pytest.raises(UsageError, match="family berd: not known; there are bert"):
        find(NAMES, families(), family="berd")
    with pytest.raises(UsageError, match="no dialect fairseq of bert"):
        find(NAMES, families(), family="bert", dialect="fairseq")
    with pytest.raises(MismatchError, match="no family fits"):
        find(NAMES, families(), framework="mindspore")
    with pytest.raises(MismatchError, match="0 tensors"):
        find((), families())


def test_dialects_by_name_or_framework() -> None:
    bert = family_named("bert")
    assert target_dialect(bert, "mindspore").name == "modelzoo"
    assert target_dialect(bert, "mindnlp").name == "mindnlp"
    with pytest.raises(UsageError, match="bert has no dialect for caffe; there are google"):
        target_dialect(bert, "caffe")
    with pytest.raises(UsageError, match="family no: not known"):
        family_named("no")


def small(name: str, *rows: str, evidence: dict[str, int] | None = None, specialises: str | None = None) -> Family:
    """A family of one dialect."""
    lines = [row(d=line) for line in rows]
    return Family(
        name,
        (Dialect("d", "numpy", (scope(),)),),
        (group("all", *lines, required=True),),
        {},
        evidence=evidence or {},
        specialises=specialises,
    )


def test_families_of_the_same_names_are_told_apart_or_asked_for() -> None:
    names = ("w", "b")
    one, two = small("one", "w : x y", "b : y"), small("two", "w : x y", "b : y")
    with pytest.raises(UsageError, match="the names fit one and two: pass --family"):
        find(names, {"one": one, "two": two})
    assert find(names, {"one": one, "two": two}, family="two").family is two
    special = small("special", "w : x y", "b : y", specialises="one")
    assert find(names, {"one": one, "special": special}).family is one
    known = small("known", "w : x y", "b : y", evidence={"x": 1}, specialises="one")
    assert find(names, {"one": one, "known": known}, sizes={"w": (1, 3), "b": (3,)}).family is known
    assert find(names, {"one": one, "known": known}, sizes={"w": (2, 3), "b": (3,)}).family is one


def test_more_names_win() -> None:
    few, many = small("few", "w : x"), small("many", "w : x", "b : x")
    assert find(("w", "b"), {"few": few, "many": many}).family is many


def test_two_models_in_one_checkpoint() -> None:
    names = (*(f"teacher.{name}" for name in as_hf(google_bert(layers=3))), *as_hf(google_bert()))
    tinybert = family_named("tinybert")
    match = match_as(names, tinybert, tinybert.dialect("hf"))
    assert {model.scope.name for model in match.models} == {"teacher", "student"}
    assert sorted(
        len(model.found["embeddings.word_embeddings.weight"].names)
        if "embeddings.word_embeddings.weight" in model.found
        else 1
        for model in match.models
    ) == [1, 1]
    assert match.unknown == ()


def test_a_tied_copy_takes_the_place_of_what_is_not_there() -> None:
    """An exporter keeps one name of a tied bias, either of them. A decoder is no embedding: it may be untied."""
    names = [name for name in as_hf(google_bert()) if name != "cls.predictions.bias"]
    family = family_named("bert")
    (model,) = match_as([*names, "cls.predictions.decoder.bias"], family, family.dialect("hf")).models
    found = {name for one in model.found.values() for name in one.names.values()}
    assert found == {*names, "cls.predictions.decoder.bias"}
    assert model.found["cls/predictions/output_bias"].names == {(): "cls.predictions.decoder.bias"}
    lost = [name for name in as_hf(google_bert()) if name != "bert.embeddings.word_embeddings.weight"]
    (model,) = match_as([*lost, "cls.predictions.decoder.weight"], family, family.dialect("hf")).models
    assert "embeddings/word_embeddings" not in model.found


def test_a_family_that_cannot_be_does_not_hide_another() -> None:
    names = ("base.w", "a.head", "b.head")
    free, plain = (
        small("free", "base.w : x", "{task*}.head : x"),
        small("plain", "base.w : x", "a.head : x", "b.head : x"),
    )
    assert find(names, {"free": free, "plain": plain}).family.name == "plain"
    with pytest.raises(UsageError, match=r"free: task has 2 values \(a, b\), wanted one"):
        find(names, {"free": free})


def test_a_scope_that_accounts_for_all_is_taken_before_another_is_asked() -> None:
    """The other would read two tasks into the same names, and refuse them."""
    scopes = (scope("", head=""), scope("m.", head=""))
    rows = (row(a="{task*}.w : hidden"), row(a="m.u.w : hidden"), row(a="m.v.w : hidden"))
    base, head = group("base", row(a="w0 : hidden"), required=True), group("head", *rows, at="head")
    family = Family("f", (Dialect("a", "numpy", scopes),), (base, head), {"hidden": ("hidden",)})
    match = find(["m.w0", "m.u.w", "m.v.w"], {"f": family})
    assert (match.claimed, match.unknown, match.wrapped) == (3, (), 0)
    assert match.models[0].scope is scopes[1]


def test_a_family_that_needs_more_before_its_names_is_not_looked_for() -> None:
    """It could account for no more, and would lose to the one whose scope says what stands there."""
    tried = {
        name: Family(
            name,
            (Dialect("a", "numpy", (scope(prefix),)),),
            (group("base", row(a="w : hidden"), required=True),),
            {"hidden": ("hidden",)},
        )
        for name, prefix in (("bare", ""), ("knowing", "m."))
    }
    for order in (("bare", "knowing"), ("knowing", "bare")):
        assert find(["m.w"], {name: tried[name] for name in order}).family.name == "knowing"
    names = ("m.w",)
    assert match_as(names, tried["bare"], tried["bare"].dialects[0]).claimed == 1
    parted = part(names, ())
    assert match_parted(parted, tried["bare"], tried["bare"].dialects[0], 1).claimed == 0
    assert match_parted(parted, tried["bare"], tried["bare"].dialects[0], 2).claimed == 1

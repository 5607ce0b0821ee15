"""The conformance suite finds what it is there to find."""

import pytest

from porting.convert import place, sizes
from porting.convert.table import Dialect, Family, group, row, scope
from porting.testing.families import FamilyConformance

DIALECTS = (Dialect("tf", "tensorflow", (scope("m/"),), "/"), Dialect("pt", "pytorch", (scope("m."), scope())))


def family(*rows, dialects=DIALECTS):
    return Family("made", dialects, (group("all", *rows, required=True),), labels={"layer": ("layers",)})


GOOD = family(
    row(tf="embedding : vocab hidden", pt="embedding.weight : vocab hidden"),
    row(tf="layer_{layer}/dense : hidden hidden'", pt="layer.{layer}.w : hidden' hidden"),
    row(tf="layer_{layer}/up : hidden inner", pt="layer.{layer}.up : inner hidden"),
    row(tf="layer_{layer}/{proj[q k v]} : hidden hidden'", pt="layer.{layer}.qkv : (proj hidden') hidden"),
    row(tf="bias : layer hidden", pt="layer.{layer}.bias : hidden"),
)
SUITE = FamilyConformance()


def test_a_sound_family_passes():
    SUITE.test_every_dialect_into_every_other(GOOD)
    SUITE.test_there_and_back(GOOD)
    SUITE.test_a_missing_tensor_is_named(GOOD)
    SUITE.test_a_wrong_shape_is_named(GOOD)
    SUITE.test_a_transposed_tensor_is_named(GOOD)


def test_a_planted_transpose_error_is_found(monkeypatch):
    """An engine that leaves square matrices as they are goes there and back, and is wrong all the same."""
    order = place._Placement._share

    def lazy(job, *arguments):
        share = order(job, *arguments)
        square = len(set(share.dims)) == 1 and not (job.rule.split or job.rule.stack)
        return place.Share(share.name, share.dims, share.taken, (0, 1)) if square else share

    monkeypatch.setattr(place._Placement, "_share", lazy)
    SUITE.test_there_and_back(GOOD)
    with pytest.raises(AssertionError, match="tf to pt"):
        SUITE.test_every_dialect_into_every_other(GOOD)


def test_an_engine_that_misses_nothing_is_found(monkeypatch):
    monkeypatch.setattr(sizes, "_missing", lambda *_: iter(()))
    with pytest.raises(AssertionError, match="is not missed"):
        SUITE.test_a_missing_tensor_is_named(GOOD)


def test_scopes_that_make_names_equal_are_found():
    rows = (row(tf="w : hidden", pt="w : hidden"), row(tf="x : hidden", pt="x : hidden"))
    clash = (Dialect("tf", "tensorflow", (scope(),), "/"), Dialect("pt", "pytorch", (scope("", head="w."), scope())))
    two = Family(
        "made",
        clash,
        (group("all", *rows, required=True), group("head", row(tf="y : hidden", pt="x.w : hidden"), at="head")),
        labels={},
    )
    SUITE.test_every_name_is_its_own(two)
    taken = (Dialect("tf", "tensorflow", (scope(),), "/"), Dialect("pt", "pytorch", (scope("a.b.", head="a."),)))
    same = Family(
        "made",
        taken,
        (group("all", *rows, required=True), group("head", row(tf="y : hidden", pt="b.x : hidden"), at="head")),
        labels={},
    )
    with pytest.raises(AssertionError, match=r"a\.b\.x"):
        SUITE.test_every_name_is_its_own(same)

"""What holds of every table, whichever family."""

import pytest

from porting.convert.notation import size_label
from porting.convert.registry import families
from porting.convert.table import group, row, scope
from porting.errors import TableError
from porting_converters.rows import columns

ALL = list(families().values())
COLUMNS = [(family, dialect) for family in ALL for dialect in family.dialects]


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)
class TestFamily:
    def test_row_keys_name_one_row_each(self, family):
        keys = [line.key for _, line in family.rows()]
        assert len(set(keys)) == len(keys)

    def test_one_group_is_required(self, family):
        assert [member.name for member in family.groups if member.required] == ["backbone"]

    def test_every_row_reaches_every_other_dialect_or_says_why_not(self, family):
        silent = [
            f"{line.key}: not in {dialect.name}"
            for member, line in family.rows()
            for dialect in family.dialects
            if dialect.name not in line.cells and line.drop is None and line.tie is None
        ]
        allowed = {"roberta": ("pooler", "classifier", "qa_outputs")}.get(family.name, ())
        assert [line for line in silent if not line.startswith(allowed)] == []

    def test_labels_of_the_config_occur_in_the_table(self, family):
        used = {
            size_label(label)
            for _, line in family.rows()
            for forms in line.cells.values()
            for form in forms
            for label in (*form.cell.labels, *(field.name for field in form.cell.fields))
        }
        assert set(family.labels) <= used

    def test_the_version_is_a_property_of_the_text(self, family):
        assert family.version == family.version
        assert len({other.version for other in ALL}) == len(ALL)


@pytest.mark.parametrize(("family", "dialect"), COLUMNS, ids=lambda part: part.name)
class TestDialect:
    def test_every_scope_gives_every_level_a_prefix_of_its_base(self, family, dialect):
        levels = {member.at for member in family.groups}
        for known in dialect.scopes:
            assert set(known.levels) <= levels
            for level in known.levels:
                outer = known.prefix(level)
                assert outer == "" or outer.endswith((dialect.separator, "_"))

    def test_free_fields_have_a_value_to_write(self, family, dialect):
        free = {
            part.name
            for _, line in family.rows()
            for form in line.cells.get(dialect.name, ())
            for part in form.cell.fields
            if part.kind == "free"
        }
        for known in dialect.scopes:
            assert set(known.variables) == free

    def test_slots_have_both_moments(self, family, dialect):
        assert dialect.slots, family.name
        for form in dialect.slots:
            assert {"m", "v"} <= set(form.roles)


def test_every_family_reaches_every_framework():
    for family in ALL:
        assert {"tensorflow", "pytorch", "mindspore"} <= {dialect.framework for dialect in family.dialects}


def test_columns_of_unknown_rows_are_refused():
    with pytest.raises(TableError, match="other: no row x"):
        columns([row(hf="w : a b")], other={"x": "w : b a"})


def test_groups_that_do_not_share_may_not_overlap():
    first = group("one", row(google="a : n", hf="w : n"))
    second = row(google="b : n", hf="w : n")
    assert group("two", second, shares="one").may_share(first)
    assert not group("two", second).may_share(first)
    assert not first.may_share(first)


def test_a_level_without_a_prefix_has_none():
    assert scope("bert.", pooler="bert.").prefix("head") == ""

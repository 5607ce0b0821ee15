"""The table keeps its promises; the kit's own suite says what they are."""

from porting_tiny.family import FAMILY

from porting.testing.families import FamilyConformance


class TestTiny(FamilyConformance):
    family = FAMILY

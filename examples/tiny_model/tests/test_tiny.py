"""The table keeps its promises; the kit's own suite says what they are."""

from porting.testing.families import FamilyConformance
from porting_tiny.family import FAMILY


class TestTiny(FamilyConformance):
    family = FAMILY

"""Every installed family passes the conformance suite; a new one needs no edit here."""

import pytest

from porting.convert.registry import families
from porting.testing.families import FamilyConformance


class TestEveryFamily(FamilyConformance):
    @pytest.fixture(params=list(families()))
    def port_family(self, request):
        return families()[request.param]

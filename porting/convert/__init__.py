"""From one dialect of a model family to another: the notation, the plan, the ledger.

The package is also the function: `porting.convert(source, output, to=…)` is `porting.convert.convert.convert`.
Importing any module of a package binds the package's name in its parent, so the parent's name can
only be both if the package can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from porting.convert.ledger import Ledger


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Ledger:
        from porting.convert.convert import convert

        return convert(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable

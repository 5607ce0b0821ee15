"""What a worker tells the process that started it: JSON, a line a message, on a pipe of its own.

{"progress": …} any number of times, then one of {"result": …}; {"error": …}, a PortError that is
raised again on the other side; and {"exception": …}, anything else, as text.
"""

from __future__ import annotations

from typing import Any

from porting import errors
from porting.errors import FormatError, MismatchError, PortError


def encode_error(error: PortError) -> dict[str, Any]:
    """An error as JSON values. A class that the kit does not have goes as the nearest that it has."""
    if isinstance(error, FormatError):
        return {"class": "FormatError", "args": [error.path, error.place, error.problem]}
    if isinstance(error, MismatchError):
        return {"class": "MismatchError", "args": [error.title, list(error.problems)]}
    nearest = next(each.__name__ for each in type(error).__mro__ if getattr(errors, each.__name__, None) is each)
    return {"class": nearest, "args": str(error).split("\n")}


def decode_error(message: dict[str, Any]) -> PortError:
    """The error again.

    >>> decode_error(encode_error(FormatError("a.npz", "x", "wanted 3, got 4")))
    FormatError('a.npz: x: wanted 3, got 4')
    """
    error: PortError = getattr(errors, message["class"])(*message["args"])
    return error

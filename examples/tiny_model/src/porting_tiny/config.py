"""The config of tiny."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from porting.errors import UsageError


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Raises: UsageError naming the first field that is not a positive integer."""

    vocab_size: int = 100
    hidden_size: int = 16
    num_labels: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"tiny config: {field.name}: wanted a positive integer, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

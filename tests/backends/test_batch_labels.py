"""A class that a head does not have is refused by every model before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.errors import PortError
from porting.model.batch import check_batch
from porting.model.registry import models

CLASSIFIERS = sorted(
    name for name, spec in models().items() if any(task.name == "classification" for task in spec.tasks)
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_out_of_range_is_named(name: str) -> None:
    spec = models()[name]
    config = next(iter(spec.sizes.values()))
    batch = {"input_ids": np.ones((1, 4), np.int32), "label_ids": np.array([3], np.int32)}
    with pytest.raises(PortError, match="label_ids"):
        check_batch(spec, config, Build("classification", labels=3), batch)

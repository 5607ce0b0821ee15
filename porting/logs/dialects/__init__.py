"""The dialects of lines. A file may mix them: each is looked for in every file."""

from __future__ import annotations

from porting.logs.dialect import Dialect
from porting.logs.dialects.ascend import DIALECT as ASCEND
from porting.logs.dialects.classification import DIALECT as CLASSIFICATION
from porting.logs.dialects.estimator import DIALECT as ESTIMATOR
from porting.logs.dialects.json_lines import DIALECT as JSON_LINES
from porting.logs.dialects.megatron import DIALECT as MEGATRON
from porting.logs.dialects.mindformers import DIALECT as MINDFORMERS
from porting.logs.dialects.mindspore import DIALECT as MINDSPORE
from porting.logs.dialects.mllog import DIALECT as MLLOG
from porting.logs.dialects.modelzoo import DIALECT as MODELZOO
from porting.logs.dialects.smi import DIALECT as SMI
from porting.logs.dialects.trainer import DIALECT as TRAINER
from porting.logs.dialects.xla import DIALECT as XLA
from porting.logs.dialects.xlnet import DIALECT as XLNET

DIALECTS: tuple[Dialect, ...] = (
    ESTIMATOR,
    XLNET,
    ASCEND,
    MODELZOO,
    MINDSPORE,
    MINDFORMERS,
    TRAINER,
    XLA,
    MEGATRON,
    MLLOG,
    JSON_LINES,
    CLASSIFICATION,
    SMI,
)

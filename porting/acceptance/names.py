"""What findings of L5 to L7 are called, for those who look for one of them."""

DATA = "precondition: data"
WEIGHTS = "precondition: weights"
DROPOUT = "precondition: dropout"
RATE = "precondition: lr"
FINITE = "precondition: finite"
STEP_0 = "precondition: step 0"
DESCENT = "precondition: descent"
PRECONDITIONS = (DATA, WEIGHTS, DROPOUT, RATE, FINITE, STEP_0, DESCENT)

REPLICAS = "replicas"
SPREADS = "ratio of spreads"
TAIL = "tail mean"
SHADOW = "shadow"
POWER = "power"

STEP_TIME = "step time"
"""Of L6; its value is the ratio of the medians, target over source."""
COMPILATION = "compilation"
RECOMPILATIONS = "recompilations"
CPU_FALLBACKS = "cpu_fallbacks"

EXAMPLES, ANSWERS = "examples", "predictions"
"""Of L7: whether both sides answered the same examples, and with numbers."""

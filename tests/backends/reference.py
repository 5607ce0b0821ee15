"""What a recipe means, in numpy and float64, one parameter after the other: what the frameworks are held against."""

from dataclasses import dataclass, field

import numpy as np

from porting.model.schedule import learning_rate


@dataclass
class Reference:
    recipe: object
    weights: dict
    treatments: dict
    m: dict = field(default_factory=dict)
    v: dict = field(default_factory=dict)
    updates: int = 0

    def step(self, grads, counted=None):
        """grads: None where the loss does not reach. counted: rows in the place of a gathered table's gradient."""
        r = self.recipe
        lr, t = learning_rate(r.schedule, self.updates), self.updates + 1
        grads = {
            k: np.zeros_like(w) if grads[k] is None and r.unused == "decayed" else grads[k]
            for k, w in self.weights.items()
        }
        grads = {k: np.float64(g) for k, g in grads.items() if g is not None}
        norms = {k: np.linalg.norm(np.float64((counted or {}).get(k, g)).ravel()) for k, g in grads.items()}
        total = np.sqrt(sum(norm**2 for norm in norms.values()))
        for k, grad in grads.items():
            norm = {"none": 0.0, "global_norm": total, "per_tensor": norms[k]}[r.clip.kind]
            limit = r.clip.norm / (norm + r.clip.epsilon) if norm + r.clip.epsilon > 0 else np.inf
            g = grad * min(limit, 1.0)
            how, rate = self.treatments[k], lr
            if r.layer_decay_of == "gradient":
                g = g * how.scale
            else:
                rate = lr * how.scale
            c1, c2 = 1 - r.beta1, 1 - r.beta2
            if r.complement == "float32":
                c1, c2 = (float(np.float32(1) - np.float32(b)) for b in (r.beta1, r.beta2))
            m = self.m[k] = r.beta1 * self.m.get(k, 0.0) + c1 * g
            v = self.v[k] = r.beta2 * self.v.get(k, 0.0) + c2 * g * g
            if not r.bias_correction:
                u = m / (np.sqrt(v) + r.epsilon)
            elif r.epsilon_with == "corrected":
                u = m / (1 - r.beta1**t) / (np.sqrt(v / (1 - r.beta2**t)) + r.epsilon)
            else:
                u = np.sqrt(1 - r.beta2**t) / (1 - r.beta1**t) * m / (np.sqrt(v) + r.epsilon)
            w = self.weights[k]
            if r.decay_form == "adamw":
                self.weights[k] = w * (1 - rate * how.decay) - rate * u
            else:
                self.weights[k] = w - rate * (u + how.decay * w)
        self.updates += 1
        return total

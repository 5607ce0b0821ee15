"""TinyBERT: students of 4 layers of 312 and 6 layers of 768, their teacher, and the distillation losses."""

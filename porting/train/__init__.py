"""The loops that distillation and fine-tuning share: batches in, steps made, states on disk, metrics out."""

"""What a model is, apart from any framework: its spec, its recipe of training, its dropout, its taps."""

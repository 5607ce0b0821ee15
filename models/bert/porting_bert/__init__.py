"""BERT and RoBERTa in PyTorch, TensorFlow and MindSpore. Importing this imports no framework."""

"""The only modules that import onnxruntime."""

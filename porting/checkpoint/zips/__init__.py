"""Zip files, as PyTorch and numpy use them: read strictly, laid out for streaming."""

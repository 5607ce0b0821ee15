"""The only modules beside the model ports that import mindspore."""

"""The learned solver as one graph for other runtimes: ONNX, and torch.export."""

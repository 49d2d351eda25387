"""An ONNX file as a torch network: nn modules named after their weights, joined by a torch.fx graph."""

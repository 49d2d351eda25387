"""Reads a network from its ONNX file: a plain one in floats, and a QONNX file with its own precision."""

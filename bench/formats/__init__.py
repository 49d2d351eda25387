"""The one reader of each untrusted file format: ONNX and FlatBuffers."""

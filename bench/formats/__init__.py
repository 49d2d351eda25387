"""Readers of untrusted files: ONNX, TFLite (FlatBuffers), .npz and zip archives. Each format has one reader."""

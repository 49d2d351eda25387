"""ONNX graphs and their quantization: a library that the adapters of ONNX runtimes share, no adapter itself."""

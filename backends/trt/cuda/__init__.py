"""CUDA as a TensorRT session needs it: the driver, one GPU, one stream."""

"""The trt backend."""

"""ExecuTorch with its XNNPACK delegate on the CPU."""

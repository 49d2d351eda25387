"""Reads torch.export archives without running code that came with them. PyTorch and ExecuTorch use it."""

"""Data sets, and the corrupted test data made from them."""

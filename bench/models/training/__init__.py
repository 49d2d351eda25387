"""Training: the one loop, what it keeps fixed, and reference networks trained on first use."""

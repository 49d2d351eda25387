"""Model + recipe -> compressed model: the only package that imports torch for compression."""

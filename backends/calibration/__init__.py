"""Activation ranges from histograms: pure numpy, the same for every runtime."""

"""One run on several boards of a SKU: each takes a model with all its recipes, so that its baseline is on the same board."""

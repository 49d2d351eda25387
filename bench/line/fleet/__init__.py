"""One run on several boards of a SKU: each takes a model with all its recipes, its baseline among them."""

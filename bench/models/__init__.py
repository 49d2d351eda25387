"""Reference networks, data sets, and the models users bring."""

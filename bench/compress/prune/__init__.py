"""Steps that remove weights, neurons and channels."""

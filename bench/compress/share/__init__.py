"""Steps that let weights share values."""

"""The ort backend."""

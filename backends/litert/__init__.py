"""The litert backend."""

"""Steps that replace a layer by cheaper factors."""

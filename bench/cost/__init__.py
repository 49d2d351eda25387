"""What a model should cost: params, MACs, bytes, counted on the deployed graph."""

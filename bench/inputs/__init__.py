"""What a model is fed: what the user says of its inputs, which axis is the batch, samples given and samples drawn."""

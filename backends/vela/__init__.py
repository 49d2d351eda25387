"""Arm's Vela: what an Ethos-U NPU would need, estimated by its own compiler."""

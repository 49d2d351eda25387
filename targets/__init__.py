"""Targets that ship: one TOML file each."""

"""Searches widths of channels that keep a budget on the target itself."""

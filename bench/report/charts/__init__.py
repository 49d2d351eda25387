"""Cells -> plots, as plain data for Plotly."""

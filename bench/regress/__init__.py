"""Regressions over the history of a store: series of figures, their change points, and the alarms of one night."""

"""How candidates are chosen: by a latency table, or by one of the baselines that it must beat."""

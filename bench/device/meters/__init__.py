"""Energy meters: cumulative counters read at both ends of a window. Missing is `Unavailable`, never 0 J."""

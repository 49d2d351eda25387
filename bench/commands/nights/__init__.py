"""`pressbench nightly`: a night from the first cell to the exit code."""

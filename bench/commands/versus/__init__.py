"""`pressbench compare` and `pressbench bisect`: two sides of anything, and the step between them that made the difference."""

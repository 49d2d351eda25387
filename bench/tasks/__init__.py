"""What networks are trained for and judged by: the built-in tasks, and those of users."""

"""The networks that a search narrows: the user's own, and students in its place."""

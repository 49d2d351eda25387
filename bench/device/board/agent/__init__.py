"""The agent of a board: answers one request of the host and ends."""

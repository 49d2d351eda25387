"""A board reached by SSH: what it needs is sent by content, the worker runs detached, its events are followed."""

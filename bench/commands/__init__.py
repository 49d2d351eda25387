"""One module a command: what it does, without printing or exiting."""

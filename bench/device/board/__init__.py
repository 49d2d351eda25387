"""What runs on a board besides the worker: the agent that answers the host, the runner that keeps a worker's limit, the probe."""

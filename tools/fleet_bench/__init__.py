"""A fleet of doubles that loses boards, workers, its database and itself: `make fleet-bench`."""

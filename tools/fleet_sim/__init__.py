"""A fleet of up to 1,000 boards, simulated: what the host, the database and the scheduler of a cluster have to do for a cell."""

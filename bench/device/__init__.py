"""What travels to a target: standard library and numpy only, Python 3.10."""

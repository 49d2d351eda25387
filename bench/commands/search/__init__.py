"""`pressbench search`: a budget in, the best widths out."""

"""What a candidate will cost before it is trained: latency tables, multiply-accumulates, and the lines fitted through them."""

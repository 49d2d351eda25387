"""What the benchmarks of boards share: two workers in turns, lost links, bytes counted on the way."""

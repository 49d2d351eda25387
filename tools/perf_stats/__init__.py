"""What `pressbench nightly` detects and how often it is wrong, on real samples and on simulated ones."""

"""The claims of papers, tried again on MNIST and scikit-learn's digits: `python -m tools.papers`."""

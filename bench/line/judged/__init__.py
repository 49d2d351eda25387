"""The outputs of a file, judged: what is fed, how far they are from labels and reference, and what must be said."""

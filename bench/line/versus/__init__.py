"""Two files against each other, interleaved, until their ratio is known as well as was asked."""

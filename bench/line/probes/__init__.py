"""Small networks of our own that measure a target: layers cut out of a network, and what its roofline is measured by."""

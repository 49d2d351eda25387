"""Commands on a fleet of boards: a run that its boards share, and what the boards do now."""

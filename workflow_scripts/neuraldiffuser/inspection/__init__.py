"""What can be said of an experiment without running it: what would run, why, and at what price."""

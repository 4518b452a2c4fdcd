"""A trained counter at work: returns data, draws nothing."""

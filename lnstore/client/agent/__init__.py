"""The agent: what has to be done again and again to keep a profile's files, at the right times and without a person."""

"""The storage node."""

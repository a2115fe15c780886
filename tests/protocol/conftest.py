"""Settings of the protocol tests."""

from hypothesis import settings

# The machines that run this are shared: how long an example takes says nothing about it.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

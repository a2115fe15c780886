"""How older books become newer ones (docs/adr/0006)."""

HEAD = "0001"
"""The newest schema: what schema.py says. A new file is made at it, an older one is migrated to it."""

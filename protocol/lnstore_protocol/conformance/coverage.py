"""Requirements that no check tries, and why: all others are in the tables of checks."""

NODE_UNCHECKED: dict[str, str] = {}

"""Where shares are kept."""

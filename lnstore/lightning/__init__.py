"""Lightning, behind lnstore.ports: Core Lightning and the simulated network."""

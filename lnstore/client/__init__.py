"""The client: files to shares and back, and the rent that keeps them."""

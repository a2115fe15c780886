"""The benchmark suite: lnstore, and a peer, side by side in one run; see bench/README.md."""

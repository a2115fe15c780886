"""lnstore: storage nodes that keep and serve your data only while you pay them."""

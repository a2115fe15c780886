"""The lnstore wire protocol, formats and rent arithmetic, without I/O."""

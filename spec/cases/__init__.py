"""The cases of spec/vectors, by what they are about."""

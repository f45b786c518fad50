"""Sequence-to-sequence models: they receive a norm and never ask which one it is."""

"""Interleaved timing of norms, training steps and decoding."""

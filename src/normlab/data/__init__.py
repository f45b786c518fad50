"""Sentence pairs, subwords and batches: everything between text files and tensors."""

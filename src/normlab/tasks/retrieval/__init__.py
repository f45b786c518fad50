"""Retrieval with order embeddings, the paper's Tables 7 and 8.

sources.py reads captions and what they describe, ranking.py is loss and recall, task.py is what
the trainer asks for.
"""

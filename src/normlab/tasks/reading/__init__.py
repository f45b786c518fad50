"""Reading comprehension by cloze questions, the paper's Table 6.

sources.py reads published questions or makes some, encoding.py turns them into numbers and batches,
task.py is what the trainer asks for.
"""

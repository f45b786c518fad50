"""Translation: from sentence pairs to BLEU.

corpora.py reads sentences, tokenizer.py and encoding.py make ids of them, batching.py tensors;
objective.py and loss.py are what is learned; search.py and translator.py make translations,
scoring.py scores them, task.py hands all of it to the trainer.
"""

"""Classification of small images, the paper's CIFAR-10 task (Table 10).

sources.py reads or draws the images, shapes.py is the embedded data, whitening.py prepares them,
task.py is what the trainer asks for.
"""

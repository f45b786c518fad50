"""What is learned: a module or folder for each task; task.py says what each of them owes."""

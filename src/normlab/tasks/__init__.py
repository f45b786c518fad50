"""What is learned: one module or folder per task; task.py says what each of them owes."""

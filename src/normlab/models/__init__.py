"""Models of all tasks: they receive a norm and never ask which one it is."""

"""What norms do, by arithmetic and inside networks: measurements beside loss and BLEU."""

"""What trained models look like inside: measurements beside loss and BLEU."""

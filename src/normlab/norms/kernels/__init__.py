"""Fused kernels behind `norm.impl=fused`: C++ on CPU, Triton on a GPU; imported when first used."""

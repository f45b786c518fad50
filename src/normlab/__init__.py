"""normlab: does a network need LayerNorm's re-centring, or only its re-scaling?"""

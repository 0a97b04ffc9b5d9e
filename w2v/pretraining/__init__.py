"""How the base of ``tiny`` is made: it learns to see, on pictures of simulated rooms."""

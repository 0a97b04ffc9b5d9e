"""How the base of ``tiny`` is made: it learns to see, on single pictures of simulated rooms."""

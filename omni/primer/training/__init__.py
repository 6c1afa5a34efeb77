"""How Primer is trained: the picture-book world, its voices, and the fits. Not needed to run it."""

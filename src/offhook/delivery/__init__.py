"""How facts and signals reach those who asked for them."""

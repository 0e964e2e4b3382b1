"""How the weights come about."""

"""What a method is worth, measured on pictures kept back."""

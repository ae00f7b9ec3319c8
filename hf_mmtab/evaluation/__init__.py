"""What a trained model is worth: scores of splits and rows, beside others and guesses, and without an input."""

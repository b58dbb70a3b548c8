"""Images from what a network makes of them: autoencoders."""

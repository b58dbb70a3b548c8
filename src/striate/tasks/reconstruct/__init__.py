"""The task of reconstruction: autoencoders."""

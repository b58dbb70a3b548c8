"""Images: pictures in files, or arrays of bytes."""

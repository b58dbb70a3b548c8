"""Where the inputs of a data set lie, when memory is not the place: packed into a file, or decoded again and again."""

"""The simulator: furnished rooms made up from seeds, drawn with light, depth, masks and truth."""

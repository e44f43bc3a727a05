"""The model zoo's files: where they lie, and whether they are what they should be."""

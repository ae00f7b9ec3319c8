"""Pictures with texts: which files and columns, checked in one pass, split and loaded."""

"""Files of any kind read as records or as rows of typed cells; what is wrong is told with file, row and remedy."""

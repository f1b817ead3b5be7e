"""Texts of the generated files, one module for each kind of file. They read the code and no other source."""

"""Assembles the sparse matrices from encoded interactions, in bounded memory."""

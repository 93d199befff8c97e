"""The sparse matrices, assembled from encoded interactions in bounded memory."""

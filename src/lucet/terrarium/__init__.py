"""Terrarium: an edge server that gives every HTTP request an instance of its own."""

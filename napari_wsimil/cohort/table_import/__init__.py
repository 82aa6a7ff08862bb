"""Import of foreign tables in pure stages."""

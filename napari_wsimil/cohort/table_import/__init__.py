"""Import of tables in pure stages."""

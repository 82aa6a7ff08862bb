"""Feature files of other tools, one module per tool."""

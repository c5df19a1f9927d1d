"""Other people's loops and loggers; each file needs the extra that it names, and is imported by itself."""

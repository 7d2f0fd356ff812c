"""What figures are performed on: programs, a database, a load, a collector."""

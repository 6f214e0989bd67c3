"""What is kept. Stranger to ``call``: it takes facts and gives records."""

"""Coverage-guided fuzzing of all that reads what others have written: `python -m fuzz`."""

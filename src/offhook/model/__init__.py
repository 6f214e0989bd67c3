"""The vocabulary: values every room may use. Standard library only; imports nothing of ours."""

"""What an auditor reads: the records' proof, their contents and their sums."""

"""What `make bench-peers` measures: another gateway that speaks ID-JAG, on the same calls as ours."""

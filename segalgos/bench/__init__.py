"""The benchmark: cells run apart, results that survive, a report to read."""

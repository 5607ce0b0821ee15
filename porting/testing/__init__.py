"""What other people's suites reuse: conformance suites that a new format or family inherits."""

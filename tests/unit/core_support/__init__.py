"""What the tests of the operator's core share."""

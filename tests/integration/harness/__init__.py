"""What the integration tests stand on: a control plane, a kubelet played by the test, an operator that can be killed."""

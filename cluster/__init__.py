"""The embedded cluster: a real Kubernetes on one Linux machine, or kind where Docker answers.

Run it as ``python3 cluster --help``. Only the standard library is used, so that it works before anything is installed.
"""

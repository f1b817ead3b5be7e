"""What vLLM of a given version needs to be told, and what it means when it fails.

``version`` reads versions and images, ``methods`` turns a variant into server flags (data in ``tables``),
``flags`` holds the flags that every server gets and those that users must not pass, ``diagnosis`` turns a
failed server's log into a verdict (data in ``signatures``). All of it is pure: no clock, network or files.
"""

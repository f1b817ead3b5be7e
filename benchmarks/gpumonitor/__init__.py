"""GPU monitor: clocks, power and throttling of the server's GPUs, sampled beside it.

``python3 /quantbench/gpumonitor -- vllm serve …`` forks a monitor and becomes vLLM: same process, so exit status,
signals and logs are vLLM's own. The monitor runs `nvidia-smi` and answers the load runner over HTTP (`monitor`).
Standard library only, Python 3.10 or newer: it runs in any engine image. Without `nvidia-smi` nothing is forked.
"""

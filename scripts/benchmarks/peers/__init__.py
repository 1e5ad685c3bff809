"""Search engines that are measured side by side, each in processes of its own, which speak JSON lines."""

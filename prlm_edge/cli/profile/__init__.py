"""`prlm-edge profile`: add, import, list, show, stats, verify, repair, rm."""

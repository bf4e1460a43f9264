"""What every training run needs: folder, log, checkpoints, report, memory, stopping."""

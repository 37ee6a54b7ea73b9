"""What a long run needs: shares of the work, a lock, the state to go on from, and signals."""
